// RudderStack's client for Node, unchanged but for its host: node rudderstack.mjs HOST KEY USER COOKIE EMAIL WRONG_HOST WRONG_KEY
// Prints as JSON what the client said of what failed: of the story, and of a call with a wrong key.
import Analytics from "@rudderstack/rudder-sdk-node";

const [host, key, userId, anonymousId, email, ...wrong] = process.argv.slice(2);

async function heard(dataPlaneUrl, writeKey, tell) {
  const failed = [];
  const note = (error) => error && failed.push(String(error.response?.status ?? error));
  const client = new Analytics(writeKey, { dataPlaneUrl, flushAt: 20, logLevel: "silly", errorHandler: note });
  tell(client);
  await client.flush();
  return failed;
}

const story = await heard(host, key, (client) => {
  client.page({ anonymousId, category: "Docs", name: "Pricing", properties: { url: "https://www.millwarden.example/pricing" } });
  client.identify({ userId, anonymousId, traits: { email, title: "Plant manager" } });
  client.group({ userId, groupId: "account-7", traits: { name: "Bo and Company" } });
  client.track({ userId, event: "Demo Requested" });
  client.alias({ userId, previousId: `old-${anonymousId}` });
});
const refused = await heard(...wrong, (client) => client.track({ userId, event: "Demo Requested" }));
console.log(JSON.stringify({ story, "wrong key": refused }));
process.exit(0);
