// Shows the progress of an import; without this script the page reloads itself.
"use strict";
const report = document.querySelector("[data-progress]");
async function poll() {
  try {
    const answer = await fetch(report.dataset.progress, { credentials: "same-origin" });
    if (answer.status !== 200 || answer.redirected) return location.reload();
    report.innerHTML = await answer.text();
  } catch { /* away for a moment */ }
  setTimeout(poll, 700);
}
if (report) setTimeout(poll, 300);
// The name of an attribute matters only where the column is one.
for (const select of document.querySelectorAll(".means select")) {
  const name = select.parentElement.querySelector(".trait");
  const show = () => { name.hidden = select.value !== "trait"; };
  select.addEventListener("change", show);
  show();
}
