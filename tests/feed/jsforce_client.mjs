// Reads everything through the real jsforce, as a pipeline would: prints the joined rows, a JSON array a line.
import { createRequire } from "node:module";

const require = createRequire(process.env.JSFORCE_FROM);
const jsforce = require("jsforce");

const { INSTANCE, CLIENT_ID, CLIENT_SECRET, COLUMNS, TARGETS } = process.env;
const oauth2 = { clientId: CLIENT_ID, clientSecret: CLIENT_SECRET, loginUrl: INSTANCE };
const connection = new jsforce.Connection({
  instanceUrl: INSTANCE,
  oauth2,
  refreshFn: async (conn, done) => {
    try {
      await conn.authorize({ grant_type: "client_credentials" });
      process.stderr.write("refreshed\n");
      done(null, conn.accessToken);
    } catch (error) {
      done(error);
    }
  },
});
try {
  await connection.authorize({ grant_type: "client_credentials" });
  const pause = Number(process.env.PAUSE ?? 0);
  let page = await connection.query(`SELECT ${TARGETS} FROM Customer__c ORDER BY Id`);
  for (;;) {
    for (const record of page.records) {
      const row = COLUMNS.split(",").map((path) => path.split(".").reduce((value, key) => value[key], record));
      process.stdout.write(`${JSON.stringify(row)}\n`);
    }
    if (page.done) break;
    await new Promise((resolve) => setTimeout(resolve, pause));
    page = await connection.queryMore(page.nextRecordsUrl);
  }
} catch (error) {
  process.stderr.write(`${error.name}: ${error.message}\n`);
  process.exitCode = 1;
}
