// Segment's client for Node, unchanged but for its host: node segment.mjs HOST KEY USER COOKIE EMAIL WRONG_HOST WRONG_KEY
// Prints as JSON what the client said of what failed: of the story, and of a call with a wrong key.
import { Analytics } from "@segment/analytics-node";

const [host, key, userId, anonymousId, email, ...wrong] = process.argv.slice(2);

async function heard(host, writeKey, tell) {
  const failed = [];
  const analytics = new Analytics({ writeKey, host, flushAt: 3 });
  analytics.on("error", (error) => failed.push(String(error.reason ?? error.code)));
  tell(analytics);
  await analytics.closeAndFlush({ timeout: 15_000 });
  return failed;
}

const story = await heard(host, key, (analytics) => {
  analytics.page({ anonymousId, category: "Docs", name: "Pricing", properties: { url: "https://www.millwarden.example/pricing" } });
  analytics.identify({ userId, anonymousId, traits: { email, title: "Plant manager" } });
  analytics.group({ userId, groupId: "account-7", traits: { name: "Bo and Company" } });
  analytics.track({ userId, event: "Demo Requested" });
  analytics.alias({ userId, previousId: `old-${anonymousId}` });
});
const refused = await heard(...wrong, (analytics) => analytics.track({ userId, event: "Demo Requested" }));
console.log(JSON.stringify({ story, "wrong key": refused }));
