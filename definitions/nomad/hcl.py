"""HCL2 text in, plain values out: with its expressions as they are written, or evaluated and with line numbers.

Owns the only use of a parser of HCL (python-hcl2), variables and their types, locals, templates and operators, what
Nomad leaves for run time (`${NOMAD_...}`, `${env["X"]}`). Deliberately not: functions but for `join`, `for` and splat
expressions, `dynamic` blocks; each is refused by name with its line.
"""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from lark import Token, Tree, UnexpectedInput

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_HEREDOC = re.compile(r"<<-?\s*([\w.-]+)\r?\n(.*?)[ \t]*\1\s*\Z", re.DOTALL)
_RUNTIME = re.compile(r'(NOMAD_\w+|env\["[^"]+"\])\Z')
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "%": operator.mod,
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
    "&&": lambda a, b: a and b, "||": lambda a, b: a or b,
}  # fmt: skip
_PLAIN_TYPES = {"string", "number", "bool", "any"}
_COLLECTIONS = {"list", "set", "map"}
_LEVELS = 100
"""How deep brackets may stand in each other; Nomad's own job files need ten."""
_IN_CODE = re.compile(
    r'#[^\n]*|//[^\n]*|/\*.*?\*/|<<-?[ \t]*([\w.-]+)\r?\n.*?^[ \t]*\1\b|[()\[\]{}"]', re.DOTALL | re.MULTILINE
)
_IN_STRING = re.compile(r'\\.|\$\$\{|%%\{|[$%]\{|"', re.DOTALL)


class HclError(Exception):
    """A text cannot be read or evaluated; the message is one line."""


def plain(source: str) -> dict[str, Any]:
    """The top-level body: attributes by name, blocks by type as lists. An expression stays text: `${var.x}`.

    Raises:
        HclError: It is not HCL2.
    """
    import hcl2  # slow to import, and few commands need it
    from hcl2.utils import SerializationOptions

    options = SerializationOptions(
        with_comments=False, explicit_blocks=False, strip_string_quotes=True, preserve_heredocs=False
    )
    try:
        return hcl2.loads(source, serialization_options=options)
    except Exception as error:  # the parser's own errors have no common base
        raise HclError(" ".join(str(error).split())[:200]) from error


class Block(dict[str, Any]):
    """A body: attributes by name, blocks by type as lists. Knows the lines of both.

    Attributes:
        line: Where it begins.
        lines: Where each attribute or block type begins.
        labels: The block's labels.
    """

    def __init__(self, line: int, labels: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.line = line
        self.labels = labels
        self.lines: dict[str, int] = {}


def evaluate(source: str, values: Mapping[str, str]) -> Block:
    """Evaluate a job file.

    Args:
      source: HCL2 text.
      values: Values of its variables as strings, as `-var` gives them to Nomad.

    Returns:
      The top-level body without its variables and locals.

    Raises:
      HclError: A mistake, or something that is not supported, by name and line.
    """
    import hcl2  # slow to import, and only a registration needs it

    _check_levels(source)
    try:
        tree = hcl2.parses_to_tree(source)
    except UnexpectedInput as error:
        raise _at(max(error.line, 1), f"this is not valid HCL, from column {max(error.column, 1)}") from error
    except Exception as error:
        raise HclError(f"this is not valid HCL: {str(error).splitlines()[0]}") from error
    scope = _Scope(source)
    body = _only(tree, "body")
    rest: list[Tree[Token]] = []
    declared: dict[str, tuple[Block, Tree[Token]]] = {}
    local: dict[str, Tree[Token]] = {}
    for item in _trees(body):
        if item.data == "block":
            kind, labels = scope.header(item)
            if kind == "variable" and len(labels) == 1:
                declared[labels[0]] = (Block(item.meta.line), item)
                continue
            if kind == "locals" and not labels:
                for attribute in _trees(_only(item, "body")):
                    local[scope.name(attribute)] = _trees(attribute)[-1]
                continue
        rest.append(item)
    for name in values:
        if name not in declared:
            raise HclError(f'a value is given for variable "{name}", which the job file does not declare')
    for name, (_, tree_) in declared.items():
        scope.declare(name, tree_, values)
    scope.locals = local
    block = Block(1)
    for item in rest:
        scope.add(block, item)
    return block


def _check_levels(source: str) -> None:
    """Refuse text that the parser would take seconds for, only to give up in the end."""
    opened: list[str] = []
    at = 0
    while mark := (_IN_STRING if opened[-1:] == ['"'] else _IN_CODE).search(source, at):
        at, text = mark.end(), mark[0]
        if text == '"' and opened[-1:] == ['"']:
            opened.pop()
        elif text in ("(", "[", "{", "${", "%{", '"'):
            opened.append(text)
        elif text in (")", "]", "}") and opened:
            opened.pop()
        if len(opened) > _LEVELS:
            raise _at(source.count("\n", 0, at) + 1, f"more than {_LEVELS} brackets stand in each other")


def _at(line: int, problem: str, near: object = None) -> HclError:
    text = f": {str(near).splitlines()[0]}" if near else ""
    return HclError(f"line {line}: {problem}{text}")


def _trees(tree: Tree[Token]) -> list[Tree[Token]]:
    return [child for child in tree.children if isinstance(child, Tree) and child.data != "new_line_or_comment"]


def _only(tree: Tree[Token], data: str) -> Tree[Token]:
    return next(child for child in _trees(tree) if child.data == data)


def _line(tree: Tree[Token]) -> int:
    for token in tree.scan_values(lambda value: isinstance(value, Token)):
        if token.line is not None and token.strip():
            return token.line
    return getattr(tree.meta, "line", 0)


class _Scope:
    """Evaluates expressions; knows variables and locals."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.variables: dict[str, Any] = {}
        self.locals: dict[str, Any] = {}
        self.busy: list[str] = []

    # Structure

    def name(self, item: Tree[Token]) -> str:
        return str(_trees(item)[0].children[0])

    def header(self, item: Tree[Token]) -> tuple[str, tuple[str, ...]]:
        kind, *labels = [child for child in _trees(item) if child.data != "body"]
        return str(kind.children[0]), tuple(
            str(self.value(label)) if label.data == "string" else str(label.children[0]) for label in labels
        )

    def add(self, block: Block, item: Tree[Token]) -> None:
        if item.data == "attribute":
            name = self.name(item)
            if name in block:
                raise _at(item.meta.line, f'"{name}" is given twice')
            block[name] = self.value(_trees(item)[-1])
            block.lines[name] = item.meta.line
            return
        kind, labels = self.header(item)
        if kind == "dynamic":
            raise _at(item.meta.line, "dynamic blocks are not executed by the embedded engine; write the blocks out")
        inner = Block(item.meta.line, labels)
        for child in _trees(_only(item, "body")):
            self.add(inner, child)
        if not isinstance(block.setdefault(kind, []), list):
            raise _at(item.meta.line, f'"{kind}" is given twice')
        block[kind].append(inner)
        block.lines.setdefault(kind, item.meta.line)

    def declare(self, name: str, item: Tree[Token], values: Mapping[str, str]) -> None:
        type_: Tree[Token] | None = None
        default: Tree[Token] | None = None
        for attribute in _trees(_only(item, "body")):
            field = self.name(attribute) if attribute.data == "attribute" else self.header(attribute)[0]
            if field == "type":
                type_ = _trees(attribute)[-1]
            elif field == "default":
                default = _trees(attribute)[-1]
            elif field != "description":
                raise _at(
                    attribute.meta.line,
                    f'variable "{name}": "{field}" is not executed by the embedded engine; remove it',
                )
        shape = self.source[type_.meta.start_pos : type_.meta.end_pos].replace(" ", "") if type_ else "any"
        if name in values:
            value: Any = values[name]
            if shape not in ("string", "any"):
                value = self.literal(name, str(value))
        elif default is not None:
            value = self.value(default)
            if value is None:
                self.variables[name] = None
                return
        else:
            raise _at(item.meta.line, f'variable "{name}" has no value and no default; the stack must give it one')
        self.variables[name] = _converted(name, value, shape, item.meta.line)

    def literal(self, name: str, text: str) -> Any:
        """A variable's value given as HCL text, such as `["dc1"]`; no references."""
        import hcl2

        try:
            tree = hcl2.parses_to_tree(f"x = {text}")
            return _Scope(f"x = {text}").value(_trees(_trees(_only(tree, "body"))[0])[-1])
        except Exception as error:
            raise HclError(f'variable "{name}": its value is not valid HCL for its type') from error

    # Expressions

    def value(self, tree: Tree[Token]) -> Any:
        handler = getattr(self, f"_{tree.data}", None)
        if handler is None:
            what = str(tree.data).replace("_", " ")
            raise _at(_line(tree), f"{what} is not executed by the embedded engine; write the value out")
        return handler(tree)

    def _expr_term(self, tree: Tree[Token]) -> Any:
        inner = _trees(tree)[0]
        if inner.data == "identifier":
            return self.reference(inner)
        return self.value(inner)

    def _int_lit(self, tree: Tree[Token]) -> int:
        return int(str(tree.children[0]))

    def _float_lit(self, tree: Tree[Token]) -> float:
        return float(str(tree.children[0]))

    def _literal_value(self, tree: Tree[Token]) -> bool | None:
        return {"true": True, "false": False, "null": None}[str(tree.children[0])]

    def _tuple(self, tree: Tree[Token]) -> list[Any]:
        return [self.value(child) for child in _trees(tree)]

    def _object(self, tree: Tree[Token]) -> Block:
        found = Block(_line(tree))
        for element in _trees(tree):
            key_tree, value_tree = _trees(element)
            key = self.key(key_tree)
            found[key] = self.value(value_tree)
            found.lines[key] = _line(element)
        return found

    def key(self, tree: Tree[Token]) -> str:
        inner = _trees(tree)[0]
        if inner.data == "keyword":
            return str(inner.children[0])
        term = _trees(inner)[0] if inner.data == "expr_term" and len(_trees(inner)) == 1 else inner
        bare = term.data == "identifier" and len(inner.children) == len(_trees(inner))
        return str(term.children[0]) if bare else _text(self.value(inner), _line(tree))

    def _string(self, tree: Tree[Token]) -> str:
        return "".join(str(part) for part in map(self._part, _trees(tree)))

    def _part(self, tree: Tree[Token]) -> str:
        part = tree.children[0]
        if isinstance(part, Tree):
            if part.data == "interpolation":
                inner = _trees(part)[0]
                return _text(self.value(inner), _line(part))
            raise _at(
                _line(part),
                "template directives (%{ ... }) are not executed by the embedded engine; write the value out",
            )
        text = str(part)
        if part.type in ("ESCAPED_INTERPOLATION", "ESCAPED_DIRECTIVE"):
            raise _at(
                part.line or 0, f"the escape {text} is not executed by the embedded engine; give the text by a variable"
            )
        return self.unescaped(text, part.line or 0)

    def unescaped(self, text: str, line: int) -> str:
        def replaced(match: re.Match[str]) -> str:
            escape = match[1]
            if escape[0] in "uU":
                return chr(int(escape[1:], 16))
            if escape not in _ESCAPES:
                raise _at(line, f"there is no escape sequence \\{escape}")
            return _ESCAPES[escape]

        return re.sub(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", replaced, text)

    def _heredoc_template(self, tree: Tree[Token]) -> str:
        token = tree.children[0]
        assert isinstance(token, Token)  # noqa: S101
        return self.heredoc(token)

    def _heredoc_template_trim(self, tree: Tree[Token]) -> str:
        token = tree.children[0]
        assert isinstance(token, Token)  # noqa: S101
        text = self.heredoc(token)
        lines = text.split("\n")
        indents = [len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()]
        return "\n".join(line[min(indents, default=0) :] for line in lines)

    def heredoc(self, token: Token) -> str:
        match = _HEREDOC.match(str(token))
        if match is None:
            raise _at(token.line or 0, "this heredoc is not understood")
        text = match[2]
        if "%{" in text:
            raise _at(
                token.line or 0,
                "template directives (%{ ... }) are not executed by the embedded engine; write the value out",
            )

        def replaced(reference: re.Match[str]) -> str:
            path = reference[1].strip()
            root, _, name = path.partition(".")
            if root in ("var", "local") and name.isidentifier():
                return _text(self.named(root, name, token.line or 0), token.line or 0)
            if _RUNTIME.match(path):
                return reference[0]
            raise _at(
                token.line or 0,
                f"${{{path}}} in a heredoc is not executed by the embedded engine; use a variable or a local",
            )

        return re.sub(r"\$\{([^}]*)\}", replaced, text)

    def _conditional(self, tree: Tree[Token]) -> Any:
        condition, positive, negative = _trees(tree)
        chosen = self.value(condition)
        if not isinstance(chosen, bool):
            raise _at(_line(tree), "the condition is not true or false")
        return self.value(positive if chosen else negative)

    def _binary_op(self, tree: Tree[Token]) -> Any:
        left, term = _trees(tree)
        sign, right = _trees(term)
        symbol = str(sign.children[0]).strip()
        a, b = self.value(left), self.value(right)
        wanted = bool if symbol in ("&&", "||") else int | float
        if symbol not in ("==", "!=") and not all(
            isinstance(x, wanted) and (wanted is bool or not isinstance(x, bool)) for x in (a, b)
        ):
            raise _at(_line(tree), f"the operands of {symbol} do not fit it")
        try:
            result = _OPERATORS[symbol](a, b)
        except ZeroDivisionError as error:
            raise _at(_line(tree), "division by zero") from error
        return int(result) if isinstance(result, float) and result.is_integer() else result

    def _unary_op(self, tree: Tree[Token]) -> Any:
        sign = str(tree.children[0])
        value = self.value(_trees(tree)[-1])
        if sign == "!" and isinstance(value, bool):
            return not value
        if sign == "-" and isinstance(value, int | float) and not isinstance(value, bool):
            return -value
        raise _at(_line(tree), f"the operand of {sign} does not fit it")

    def _index_expr_term(self, tree: Tree[Token]) -> Any:
        return self.reference(tree)

    def _get_attr_expr_term(self, tree: Tree[Token]) -> Any:
        return self.reference(tree)

    def _function_call(self, tree: Tree[Token]) -> Any:
        name = str(_trees(tree)[0].children[0])
        if name == "join":
            arguments = [self.value(tree_) for tree_ in _trees(_only(tree, "arguments"))]
            if len(arguments) != 2 or not isinstance(arguments[0], str) or not isinstance(arguments[1], list):
                raise _at(_line(tree), "join() takes a separator and one list")
            return arguments[0].join(_text(item, _line(tree)) for item in arguments[1])
        raise _at(
            _line(tree),
            f"function {name}() is not executed by the embedded engine; write the value out or give it by a variable",
        )

    def reference(self, tree: Tree[Token]) -> Any:
        """`var.x`, `local.x`, parts of them, or what is known only at run time."""
        text = self.source[tree.meta.start_pos : tree.meta.end_pos]
        if _RUNTIME.match(text):
            return f"${{{text}}}"
        root, *path = self.path(tree)
        if root in ("var", "local") and path:
            value = self.named(root, str(path[0]), _line(tree))
            for step in path[1:]:
                try:
                    value = value[step]
                except (KeyError, IndexError, TypeError) as error:
                    raise _at(_line(tree), f"{text} does not exist") from error
            return value
        if root in ("attr", "node", "meta", "device", "unique"):
            raise _at(
                _line(tree),
                f"${{{text}}} is a node's property, which the embedded engine does not have; give it by a variable",
            )
        raise _at(_line(tree), f'"{text}" is unknown; known are var.*, local.*, NOMAD_* and env["..."]')

    def path(self, tree: Tree[Token]) -> list[Any]:
        if tree.data == "identifier":
            return [str(tree.children[0])]
        if tree.data == "expr_term":
            return self.path(_trees(tree)[0])
        if tree.data not in ("get_attr_expr_term", "index_expr_term"):
            raise _at(_line(tree), "only a variable or a local can be indexed")
        base, step = _trees(tree)
        if step.data == "get_attr":
            return [*self.path(base), str(_trees(step)[0].children[0])]
        if step.data == "braces_index":
            return [*self.path(base), self.value(_trees(step)[0])]
        raise _at(_line(tree), f"{str(step.data).replace('_', ' ')} is not executed by the embedded engine; write [0]")

    def named(self, root: str, name: str, line: int) -> Any:
        if root == "var":
            if name not in self.variables:
                raise _at(line, f"var.{name} is not declared")
            return self.variables[name]
        if name not in self.locals:
            raise _at(line, f"local.{name} is not declared")
        if name in self.busy:
            raise _at(line, f"local.{name} refers to itself")
        self.busy.append(name)
        try:
            return self.value(self.locals[name])
        finally:
            self.busy.remove(name)


def _text(value: Any, line: int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise _at(line, "only text, numbers and booleans can stand inside a string")


def _converted(name: str, value: Any, shape: str, line: int) -> Any:
    match = re.fullmatch(r"(\w+)\((.*)\)", shape)
    if match and match[1] in _COLLECTIONS:
        if match[1] == "map" and isinstance(value, dict):
            return {key: _converted(name, item, match[2], line) for key, item in value.items()}
        if match[1] != "map" and isinstance(value, list):
            return [_converted(name, item, match[2], line) for item in value]
    elif shape not in _PLAIN_TYPES:
        raise _at(
            line,
            f'variable "{name}": type {shape} is not executed by the embedded engine; use string, number, bool,'
            " list(...) or map(...)",
        )
    elif shape == "any":
        return value
    elif shape == "string" and isinstance(value, str | int | float):
        return _text(value, line)
    elif shape == "bool" and (isinstance(value, bool) or value in ("true", "false")):
        return value in (True, "true")
    elif shape == "number" and not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = None
        if number is not None:
            return int(number) if number.is_integer() else number
    raise _at(line, f'variable "{name}": the value is not a {shape}')
