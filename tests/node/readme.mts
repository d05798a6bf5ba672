// The README's events by a client whose types openapi-typescript made of the committed documents.
import createClient from "openapi-fetch";
import type { components, paths as Ingest } from "./ingest";
import type { paths as Nurture } from "./nurture";
import type { paths as Scorer } from "./scorer";

declare const process: { argv: string[] };
const [ingest, scorer, nurture, secret, query, email] = process.argv.slice(2);
const signedIn = (baseUrl: string, key: string) => ({ baseUrl, headers: { Authorization: `Bearer ${key}` } });

const events: components["schemas"]["Item"][] = [
  {
    id: `${email}-1`, type: "content_downloaded", content_id: "whitepaper-four-kinds", email,
    traits: { first_name: "Ada", title: "Maintenance manager" },
    consent: [{ channel: "email", purpose: "marketing", state: "given", basis: "form" }],
  },
  { id: `${email}-2`, type: "demo_requested", email },
];
const posted = await createClient<Ingest>(signedIn(ingest, secret)).POST("/v1/events", { body: events });
if (posted.error) throw new Error(posted.error.title);
const accepted: number = posted.data.accepted;

const leads = createClient<Scorer>(signedIn(scorer, query));
let found = await leads.POST("/v1/leads/lookup", { body: { email } });
for (let tries = 0; found.response.status === 404 && tries < 60; tries++) {
  await new Promise((wake) => setTimeout(wake, 250));
  found = await leads.POST("/v1/leads/lookup", { body: { email } });
}
const lead = found.data?.id ?? "";
const touches = await createClient<Nurture>(signedIn(nurture, query)).GET("/v1/touches", {
  params: { query: { lead, limit: 3 } },
});
console.log(JSON.stringify({ accepted, lead, touches: touches.data?.touches.length }));
