"""The command's engines, as clients of servers that are not the embedded one."""
