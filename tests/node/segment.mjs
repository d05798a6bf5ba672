// Segment's client for Node, unchanged but for its host: node segment.mjs HOST KEY USER COOKIE EMAIL
import { Analytics } from "@segment/analytics-node";

const [host, writeKey, userId, anonymousId, email] = process.argv.slice(2);
const analytics = new Analytics({ writeKey, host, flushAt: 3, maxRetries: 0 });
const failed = [];
analytics.on("error", (error) => failed.push(error));
analytics.page({ anonymousId, name: "Pricing", properties: { url: "https://www.millwarden.example/pricing" } });
analytics.identify({ userId, anonymousId, traits: { email, title: "Plant manager" } });
analytics.group({ userId, groupId: "account-7", traits: { name: "Bo and Company" } });
analytics.track({ userId, event: "Demo Requested" });
analytics.alias({ userId, previousId: `old-${anonymousId}` });
await analytics.closeAndFlush({ timeout: 10_000 });
if (failed.length) {
  console.error(failed);
  process.exit(1);
}
