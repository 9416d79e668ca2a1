// The page: keys, mouse, pads and fingers in, pictures out. What the world does is the stream's business.

import { Controls, keyName, touchLayout } from "./controls.js";
import { figures, helpSheet, points, words } from "./hud.js";
import { WorldStream } from "./stream.js";

const FIGURES_SECONDS = 0.25; // between looks at the figures, which are unreadable when they change faster
const TOAST_SECONDS = 4;
const SMOOTH_UNTIL = 480; // pixels of width up to which a frame is doubled before it is smoothed
const SIGNS = { forward: "▲", back: "▼", turn_left: "◀", turn_right: "▶" };

const $ = (id) => document.getElementById(id);
const seconds = () => performance.now() / 1000;
const view = $("view");
const brush = view.getContext("2d", { alpha: false });
const opened = seconds();
let stream = null;
let controls = null;
let timer = 0;
let hasPicture = false;
let score = null; // of the picture
let pausedByHand = false;
let isCrisp = false;
let figuresAt = -Infinity;
let toastUntil = -Infinity;
let lastMessage = "";

// The way in

function enter(token) {
  $("gate").close();
  stream?.close();
  sessionStorage.setItem("token", token);
  const { seed, ticket } = JSON.parse(sessionStorage.getItem("world") ?? '{"seed":0,"ticket":""}');
  sessionStorage.removeItem("world"); // a tab made from this one must not take its world away
  const address = new URL("ws", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.hash = "";
  stream = new WorldStream({
    open: () => new WebSocket(address),
    decode: (jpeg) => createImageBitmap(new Blob([jpeg], { type: "image/jpeg" })),
    clock: seconds,
    token,
    seed,
    ticket,
  });
  stream.onCard = meet;
}

function askForToken(why) {
  stream?.close();
  stream = null;
  sessionStorage.removeItem("token");
  $("refused").textContent = why;
  if (!$("gate").open) $("gate").showModal();
  const field = $("gate").querySelector("input");
  field.value = "";
  field.focus();
}

function firstToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) history.replaceState(null, "", location.pathname);
  return given ?? sessionStorage.getItem("token");
}

function meet(card) {
  controls = new Controls(card);
  document.title = `${card.name} · Helios World`;
  resize(card);
  fill($("held"), card.buttons.map((button) => element("li", words(button), { button })));
  const { cross, others } = touchLayout(card.buttons);
  fill($("touch").querySelector(".cross"), cross.map(touchButton));
  fill($("touch").querySelector(".others"), others.map(touchButton));
  $("touch").hidden = !matchMedia("(any-pointer: coarse)").matches;
  fill($("sheet").querySelector("dl"), helpSheet(card).flatMap(helpLine));
  const turns = card.mouse ? "Click the picture to turn with the mouse. " : "";
  $("sheet").querySelector("p").textContent = `${turns}Gamepads and touch work too.`;
}

// Pictures

function resize(card) {
  const times = isCrisp || card.width > SMOOTH_UNTIL ? 1 : 2;
  const before = new OffscreenCanvas(view.width, view.height);
  before.getContext("2d").drawImage(view, 0, 0);
  view.width = card.width * times;
  view.height = card.height * times;
  view.className = isCrisp ? "crisp" : "";
  brush.imageSmoothingEnabled = false; // edges stay edges at twice the size; what is left is smoothed by the page
  brush.drawImage(before, 0, 0, view.width, view.height);
}

function paint() {
  requestAnimationFrame(paint);
  if (stream === null) return;
  readPad();
  hold(seconds());
  drive();
  const shown = stream?.frame();
  if (shown?.isNew) {
    brush.drawImage(shown.pixels, 0, 0, view.width, view.height);
    hasPicture = true;
    score = shown.score;
    stream.painted(shown);
  }
  write();
}

// The next chunk is asked for between two pictures too, when its moment comes.
function drive() {
  if (stream === null) return;
  stream.tick();
  if (stream.refused) askForToken(stream.refused);
  clearTimeout(timer);
  if (stream?.wait < 1) timer = setTimeout(drive, 1000 * stream.wait);
}

// Words over the picture

function write() {
  if (stream === null) return;
  const now = seconds();
  const { status, card } = stream;
  if (stream.message !== lastMessage) {
    lastMessage = stream.message;
    if (lastMessage && status !== "lost") say(lastMessage);
  }
  show("waking", !hasPicture);
  show("banner", status === "lost");
  const isOver = score !== null && score.over;
  show("ending", isOver && status !== "lost");
  show("score", card?.outcomes === true && hasPicture);
  text("points", points(score?.total ?? 0));
  text("over", `The game is over: score ${points(score?.total ?? 0)}`);
  show("word", status === "paused" && hasPicture && !isOver);
  show("toast", now < toastUntil && hasPicture && status !== "lost");
  const isOpen = $("figures").ariaPressed === "true";
  show("rows", isOpen);
  show("held", isOpen && card !== null && $("touch").hidden);
  if (now - figuresAt < FIGURES_SECONDS) return;
  figuresAt = now;
  text("waited", `${lastMessage || "connecting"}, ${Math.floor(now - opened)} s`);
  text("trouble", lastMessage);
  text("place", card === null ? "" : `${card.name}, seed ${stream.seed}`);
  if (isOpen) {
    const rows = figures(stream.stats, stream.seed, status);
    fill($("rows"), rows.flatMap(([label, value]) => [element("dt", label), element("dd", value)]));
  }
}

function say(words) {
  $("toast").textContent = words;
  toastUntil = seconds() + TOAST_SECONDS;
}

function show(id, on) {
  if ($(id).hidden === on) $(id).hidden = !on;
}

function text(id, words) {
  if ($(id).textContent !== words) $(id).textContent = words;
}

function element(kind, words, data = {}) {
  const made = document.createElement(kind);
  made.textContent = words;
  Object.assign(made.dataset, data);
  return made;
}

function fill(parent, children) {
  parent.replaceChildren(...children);
}

function helpLine(line) {
  if (line !== null) return [element("dt", line[0]), element("dd", line[1])];
  const gap = element("div", "");
  gap.className = "gap";
  return [gap];
}

// Hands

function hold(when) {
  if (controls === null || stream === null) return;
  const held = controls.held;
  stream.hold(held, when);
  for (const shown of document.querySelectorAll("#held li, #touch button")) {
    shown.classList.toggle("on", held.includes(shown.dataset.button));
  }
}

function letGo() {
  controls?.releaseAll();
  hold(seconds());
}

function readPad() {
  const pads = navigator.getGamepads?.() ?? []; // absent where the page is not a secure context
  controls?.pad([...pads].find((pad) => pad?.connected) ?? null);
}

function touchButton(button) {
  const made = element("button", SIGNS[button] ?? words(button), { button });
  made.type = "button";
  made.ariaLabel = words(button);
  if (button in SIGNS) made.className = "sign";
  const move = (held) => (event) => {
    event.preventDefault();
    if (held !== null) made.setPointerCapture(event.pointerId);
    controls.touch(event.pointerId, held);
    hold(event.timeStamp / 1000);
  };
  made.addEventListener("pointerdown", move(button));
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) made.addEventListener(end, move(null));
  made.addEventListener("contextmenu", (event) => event.preventDefault());
  return made;
}

// Commands

const commands = {
  r: (event) => stream?.reset(event.shiftKey ? stream.seed : stream.seed + 1),
  p: () => pause(!pausedByHand),
  f3: () => toggleFigures(),
  f1: () => toggleHelp(),
  h: () => toggleHelp(),
  return: () => askForPrompt(),
};

function pause(paused) {
  pausedByHand = paused;
  $("pause").textContent = paused ? "Go on" : "Pause";
  stream?.pause(paused || document.hidden);
}

function toggleFigures() {
  $("figures").ariaPressed = String($("figures").ariaPressed !== "true");
  figuresAt = -Infinity;
}

function toggleHelp() {
  letGo();
  if ($("sheet").open) $("sheet").close();
  else $("sheet").showModal();
}

function toggleScaling() {
  isCrisp = !isCrisp;
  $("scaling").textContent = isCrisp ? "Crisp" : "Smooth";
  if (stream?.card) resize(stream.card);
}

function askForPrompt() {
  if (!stream?.card?.takes_prompt) return;
  letGo();
  document.exitPointerLock?.();
  $("prompt").hidden = false;
  $("prompt").querySelector("input").focus();
}

function endPrompt(send) {
  const field = $("prompt").querySelector("input");
  const told = field.value.trim();
  field.value = "";
  $("prompt").hidden = true;
  if (!send || !told) return;
  stream?.tell(told);
  say(told);
}

function listen() {
  addEventListener("keydown", (event) => {
    if ($("gate").open || !$("prompt").hidden) return;
    const name = keyName(event);
    const isChord = (event.ctrlKey && event.key !== "Control") || event.metaKey || (event.altKey && event.key !== "Alt");
    if (isChord) return;
    const onButton = document.activeElement instanceof HTMLButtonElement && ["return", "space"].includes(name);
    if (Object.hasOwn(commands, name) && !onButton) {
      event.preventDefault();
      if (!event.repeat) commands[name](event);
    } else if (!$("sheet").open && controls?.press(event)) {
      event.preventDefault();
      if (!event.repeat) hold(event.timeStamp / 1000);
    }
  });
  addEventListener("keyup", (event) => {
    controls?.release(event.code);
    hold(event.timeStamp / 1000);
  });
  addEventListener("blur", letGo);
  document.addEventListener("visibilitychange", () => {
    letGo();
    stream?.pause(document.hidden || pausedByHand);
  });
  addEventListener("pagehide", () => {
    if (stream) sessionStorage.setItem("world", JSON.stringify({ seed: stream.seed, ticket: stream.ticket }));
  });
  view.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && stream?.card?.mouse && !document.pointerLockElement) view.requestPointerLock();
  });
  document.addEventListener("mousemove", (event) => {
    if (document.pointerLockElement !== view) return;
    stream?.look(event.movementX, event.movementY);
  });
  listenToPage();
}

function listenToPage() {
  const clicks = { new: commands.r, pause: commands.p, scaling: toggleScaling, figures: toggleFigures, help: toggleHelp };
  for (const [id, command] of Object.entries(clicks)) {
    $(id).addEventListener("click", (event) => {
      $(id).blur(); // or the next space would press it again
      command(event);
    });
  }
  $("sheet").addEventListener("click", () => $("sheet").close());
  $("gate").addEventListener("cancel", (event) => event.preventDefault());
  $("gate").querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    enter(new FormData(event.target).get("token").trim());
  });
  $("prompt").addEventListener("submit", (event) => {
    event.preventDefault();
    endPrompt(true);
  });
  $("prompt").addEventListener("keydown", (event) => event.key === "Escape" && endPrompt(false));
}

listen();
const token = firstToken();
if (token) enter(token);
else askForToken("");
setInterval(drive, 500); // for when the page is hidden and there are no pictures to paint
requestAnimationFrame(paint);
