// Jitsu's client in Node, unchanged but for its host: node jitsu.mjs HOST KEY USER COOKIE EMAIL WRONG_HOST WRONG_KEY
// Prints as JSON what the client said of what failed: of the story, and of a call with a wrong key.
import jitsu from "@jitsu/js/dist/jitsu.cjs.js";

const [host, key, userId, anonymousId, email, ...wrong] = process.argv.slice(2);

async function heard(host, key, tell) {
  const failed = [];
  const client = jitsu.jitsuAnalytics({ host, writeKey: `${key}:x`, s2s: true, errorPolicy: (what) => failed.push(what) });
  client.setAnonymousId(anonymousId);
  await tell(client);
  return failed;
}

const story = await heard(host, key, async (client) => {
  await client.page({ name: "Pricing", url: "https://www.millwarden.example/pricing" });
  await client.identify(userId, { email, title: "Plant manager" });
  await client.group("account-7", { name: "Bo and Company" });
  await client.track("Demo Requested");
});
const refused = await heard(...wrong, (client) => client.track("Demo Requested"));
console.log(JSON.stringify({ story, "wrong key": refused }));
