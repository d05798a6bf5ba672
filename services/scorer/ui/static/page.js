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
