// Keeps the page current: replaces the parts that changed and adds what is new, as long as somebody looks.
(() => {
  "use strict";
  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) break;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }

  for (const button of document.querySelectorAll("[data-back]")) {
    if (history.length < 2) break;
    button.hidden = false;
    button.addEventListener("click", () => history.back());
  }

  // On a phone sections are folded, but for the one that the address names.
  if (matchMedia("(max-width: 44rem)").matches) {
    const named = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    for (const section of document.querySelectorAll("details.fold")) section.open = Boolean(named) && section.contains(named);
  }

  // "2 h ago" grows older while the page is open. While time is compressed nobody here knows the time.
  const skew = Number(document.body.dataset.now) - Date.now();
  function words(moment) {
    const seconds = (moment - Date.now() - skew) / 1000, span = Math.abs(seconds);
    if (span >= 30 * 86400) return "";
    if (span < 60) return seconds > 0 ? "in a moment" : "just now";
    const days = Math.floor(span / 86400), hours = Math.floor(span / 3600);
    const said = days ? `${days} day${days === 1 ? "" : "s"}` : hours ? `${hours} h` : `${Math.floor(span / 60)} min`;
    return seconds > 0 ? `in ${said}` : `${said} ago`;
  }
  if (!("compressed" in document.body.dataset)) setInterval(() => {
    for (const time of document.querySelectorAll("time[title]")) {
      const said = words(Date.parse(time.dateTime));
      if (said && said !== time.textContent) time.textContent = said;
    }
  }, 20000);

  const list = document.getElementById("items");
  const parts = [...document.querySelectorAll("main [data-live]")];
  if (!parts.length) return;
  const most = 60;
  const pause = document.getElementById("pause");
  const state = document.getElementById("state");
  let source = null;

  const holdsFocus = (element) => element.contains(document.activeElement);

  function replace(element, html) {
    if (!holdsFocus(element)) {
      element.innerHTML = html;
      return;
    }
    const address = document.activeElement.getAttribute("href");
    element.innerHTML = html;
    const again = [...element.querySelectorAll("a")].find((link) => link.getAttribute("href") === address);
    if (again) again.focus();
  }

  function add(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    const fresh = [...template.content.children].filter((item) => !document.getElementById(item.id));
    for (const item of fresh) item.classList.add("fresh");
    list.prepend(...fresh);
    while (list.children.length > most && !holdsFocus(list.lastElementChild)) list.lastElementChild.remove();
    document.getElementById("nothing-new").classList.toggle("hidden", list.children.length > 0);
  }

  function open() {
    if (source || document.hidden || (pause && pause.getAttribute("aria-pressed") === "true")) return;
    source = new EventSource("/stream");
    for (const part of document.querySelectorAll("[data-live]")) {
      const name = part.dataset.live;
      if (name !== "items") source.addEventListener(name, (event) => replace(part, event.data));
    }
    if (list) source.addEventListener("items", (event) => add(event.data));
    source.addEventListener("signed-out", () => location.assign(`/sign-in?to=${encodeURIComponent(location.pathname + location.search)}`));
    source.addEventListener("error", () => {
      state.textContent = "The connection is interrupted; what you see may be old.";
      if (!source || source.readyState !== EventSource.CLOSED) return;
      close();
      setTimeout(open, 10000);
    });
    source.addEventListener("open", () => { state.textContent = ""; });
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  if (pause) {
    pause.hidden = false;
    pause.addEventListener("click", () => {
      const paused = pause.getAttribute("aria-pressed") !== "true";
      pause.setAttribute("aria-pressed", String(paused));
      if (paused) close(); else open();
    });
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  open();
})();

// Call today: answers without loading the page again, keys, and a list that follows what changes.
(() => {
  "use strict";
  const version = document.querySelector("[data-live=today]");
  if (!version) return;
  const told = document.getElementById("told");
  const calls = () => document.getElementById("calls");
  const cards = () => [...document.querySelectorAll("#calls .call")];
  const current = () => document.activeElement.closest(".call");
  const undoing = (handoff) => document.querySelector(`#handled${handoff ? `-${handoff}` : ""} form button`);
  const waiting = new Set();
  let shown = version.textContent, seen = "", turn = 0, last = "", fading = 0, checking = 0, sent = Promise.resolve();

  // Says what became of an answer; what was handled can be undone there for a while.
  function say(text, handoff) {
    clearTimeout(fading);
    told.textContent = text;
    if (!handoff || !undoing(handoff)) return;
    const button = document.createElement("button");
    button.className = "quiet";
    button.textContent = "Undo";
    button.addEventListener("click", () => undoing(handoff)?.click());
    told.append(button);
    fading = setTimeout(() => { told.textContent = ""; }, 30000);
  }

  const isTyped = (card) => [...card.querySelectorAll("input:not([type=hidden]), textarea")].some((field) => field.value !== field.defaultValue);
  const isKept = (card) => card.contains(document.activeElement) || isTyped(card) || Boolean(card.querySelector("details[open]"));

  // Puts the fresh list in place; a card that somebody is at, but for `answered`, stays as it is.
  function put(fresh, answered) {
    const list = fresh.getElementById("calls"), active = document.activeElement;
    const order = cards(), place = order.findIndex((card) => card.contains(active));
    const following = place < 0 ? [] : [...order.slice(place + 1), ...order.slice(0, place).reverse()].map((card) => card.id);
    const marked = "selectionStart" in active ? [active.selectionStart, active.selectionEnd] : null;
    for (const card of order) {
      if (card.id === answered || !isKept(card)) continue;
      const same = list.querySelector(`#${CSS.escape(card.id)}`);
      if (same) same.replaceWith(card);
      else if (isTyped(card)) {
        list.prepend(card);
        say("Somebody has answered this one meanwhile; what you typed is still here.");
      }
    }
    calls().replaceWith(list);
    const here = fresh.querySelector("[data-live=today]");
    shown = here.textContent;
    check();
    if (document.contains(active) && active !== document.body) {
      active.focus({ preventScroll: true });
      if (marked && marked[0] !== null) active.setSelectionRange(...marked);
    } else if (place >= 0) {
      const next = [order[place].id, ...following].map((id) => document.getElementById(id)).find(Boolean);
      (next || document.getElementById("content")).focus();
    }
  }

  const parsed = async (answer) => new DOMParser().parseFromString(await answer.text(), "text/html");

  // The stream may say something newer than the list that was fetched; once for each version of it.
  function check() {
    clearTimeout(checking);
    checking = setTimeout(() => {
      if (version.textContent === shown || version.textContent === seen) return;
      seen = version.textContent;
      refresh();
    }, 3000);
  }

  // Fetches the list; while answers are on their way, or have been since, theirs is the later one.
  async function refresh() {
    if (waiting.size) return;
    const mine = ++turn;
    try {
      const answer = await fetch(location.href);
      const fresh = await parsed(answer);
      if (mine === turn && answer.ok && fresh.getElementById("calls")) put(fresh, "");
    } catch {
      // the stream says that the connection is interrupted
    }
  }

  new MutationObserver(() => { if (version.textContent !== shown) refresh(); }).observe(version, { childList: true, characterData: true, subtree: true });

  async function send(body, card, name) {
    const given = body.get("answer"), handoff = body.get("handoff");
    turn += 1;
    try {
      const answer = await fetch("/today", { method: "POST", body });
      if (new URL(answer.url).pathname !== "/today") { location.assign(answer.url); return; }
      const fresh = await parsed(answer);
      if (!answer.ok || !fresh.getElementById("calls")) {
        say([...fresh.querySelectorAll("main h1, main h1 + p")].map((part) => part.textContent).join(": ") || "That was not kept; load the page again.");
        return;
      }
      put(fresh, card);
      if (given === "undo") say(`${name} is back.`);
      else if (given === "note") say(`The note on ${name} is kept.`);
      else {
        const line = document.querySelector(`#handled-${handoff} span`);
        last = handoff;
        say(line ? line.textContent : `${name} is handled.`, handoff);
      }
      if (given === "undo") document.getElementById(`call-${handoff}`)?.focus();
    } catch {
      say("That was not kept: the connection is interrupted. Try again.");
    }
  }

  // Answers go out one after the other; the same one that is on its way already does not go again.
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.closest("#calls")) return;
    event.preventDefault();
    const body = new URLSearchParams(new FormData(form, event.submitter)), card = form.closest(".call"), key = body.toString();
    const name = card ? card.querySelector("h3").textContent : form.closest("li").querySelector("a").textContent;
    if (waiting.has(key)) return;
    waiting.add(key);
    say("");
    sent = sent.then(() => send(body, card ? card.id : "", name));
    await sent;
    waiting.delete(key);
    check();
  });

  function step(by) {
    const all = cards(), at = all.indexOf(current());
    const next = at < 0 ? all[by > 0 ? 0 : all.length - 1] : all[Math.min(all.length - 1, Math.max(0, at + by))];
    if (next) next.focus();
  }

  function act(key) {
    const card = current(), target = card && card.querySelector(`[data-key="${key}"]`);
    if (!target) return;
    if (target.tagName !== "DETAILS") { target.click(); return; }
    target.open = true;
    target.querySelector("form button, form input:not([type=hidden]), form textarea").focus();
    target.querySelector("form input:not([type=hidden]), form textarea")?.focus();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const { key } = event;
    if (key === "j" || key === "k") step(key === "j" ? 1 : -1);
    else if (event.repeat) return;
    else if ("anmdtw".includes(key) && key.length === 1) act(key);
    else if (key === "u") ((last && undoing(last)) || undoing(""))?.click();
    else if (key === "?") {
      const keys = document.getElementById("keys");
      keys.open = !keys.open;
      if (keys.open) keys.scrollIntoView({ block: "nearest" });
    } else return;
    event.preventDefault();
  });

  const ahead = Number(document.body.dataset.now) - Date.now();
  if (!("compressed" in document.body.dataset)) setInterval(() => {
    for (const form of document.querySelectorAll("#handled form[data-until]")) if (Date.now() + ahead > Number(form.dataset.until)) form.remove();
  }, 10000);
})();
