// Keys, gamepad and fingers as buttons of a world. Told about them by whoever reads them; needs no browser.

// KeyboardEvent.code to key names as pygame has them, which a world's bindings use; letters and digits by rule.
const CODES = {
  ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right",
  Space: "space", Enter: "return", Tab: "tab", Backspace: "backspace",
  Insert: "insert", Delete: "delete", Home: "home", End: "end", PageUp: "page up", PageDown: "page down",
  ShiftLeft: "left shift", ShiftRight: "right shift", ControlLeft: "left ctrl", ControlRight: "right ctrl",
  AltLeft: "left alt", AltRight: "right alt",
  Backquote: "`", Minus: "-", Equal: "=", BracketLeft: "[", BracketRight: "]", Backslash: "\\",
  Semicolon: ";", Quote: "'", Comma: ",", Period: ".", Slash: "/",
};
const RULES = [[/^Key([A-Z])$/, ""], [/^Digit(\d)$/, ""], [/^F(\d\d?)$/, "f"], [/^Numpad(\d)$/, "["]];
const DEAD = 0.35; // part of a stick's way that is nothing yet

// Name of a key. What a letter key is called is what the layout prints on it; other scripts go by its place.
export function keyName({ code, key }) {
  if (/^[a-z]$/i.test(key) && !code.startsWith("Numpad")) return key.toLowerCase();
  if (code in CODES) return CODES[code];
  for (const [rule, prefix] of RULES) {
    const found = rule.exec(code);
    if (found) return prefix + found[1].toLowerCase() + (prefix === "[" ? "]" : "");
  }
  return "";
}

// What is held right now, from all devices together.
export class Controls {
  #bindings;
  #buttons;
  #down = new Map(); // code of a key to its name, as it was when it went down
  #fingers = new Map(); // pointer to button
  #pad = new Set();

  constructor(card) {
    this.#bindings = card.bindings;
    this.#buttons = new Set(card.buttons);
  }

  // Buttons held right now, sorted.
  get held() {
    const keys = [...this.#down.values()].map((name) => this.#bindings[name]);
    return [...new Set([...keys, ...this.#fingers.values(), ...this.#pad])].sort();
  }

  // A key went down; false if the world has no use for it.
  press(event) {
    const name = keyName(event);
    if (!Object.hasOwn(this.#bindings, name)) return false;
    this.#down.set(event.code, name);
    return true;
  }

  release(code) {
    this.#down.delete(code);
  }

  // A finger, or another pointer, went down on the button on screen; null: it went up.
  touch(pointer, button) {
    if (button === null) this.#fingers.delete(pointer);
    else this.#fingers.set(pointer, button);
  }

  // The gamepad as the standard mapping has it; null: there is none.
  pad(gamepad) {
    this.#pad = gamepad === null ? new Set() : padButtons(gamepad, [...this.#buttons]);
  }

  releaseAll() {
    for (const held of [this.#down, this.#fingers, this.#pad]) held.clear();
  }
}

// Buttons of `names` that a gamepad holds: sticks and cross move and turn, the others take what is left in turn.
export function padButtons(gamepad, names) {
  const axis = (index) => gamepad.axes[index] ?? 0;
  const pressed = (index) => gamepad.buttons[index]?.pressed ?? false;
  const sideways = names.includes("strafe_left") ? ["strafe_left", "strafe_right"] : ["turn_left", "turn_right"];
  const wanted = [
    ["forward", axis(1) < -DEAD || pressed(12)],
    ["back", axis(1) > DEAD || pressed(13)],
    [sideways[0], axis(0) < -DEAD],
    [sideways[1], axis(0) > DEAD],
    ["turn_left", axis(2) < -DEAD || pressed(14)],
    ["turn_right", axis(2) > DEAD || pressed(15)],
    ["look_up", axis(3) < -DEAD],
    ["look_down", axis(3) > DEAD],
  ];
  const moves = new Set(wanted.map(([name]) => name));
  const others = names.filter((name) => !moves.has(name) && !name.startsWith("strafe_"));
  const free = [[0, 7], [1, 6], [2, 5], [3, 4]];
  others.slice(0, free.length).forEach((name, k) => wanted.push([name, free[k].some(pressed)]));
  return new Set(wanted.filter(([name, on]) => on && names.includes(name)).map(([name]) => name));
}

// Where the buttons of a card stand on a touch screen: a cross on the left, the others on the right.
export function touchLayout(names) {
  const cross = ["forward", "turn_left", "back", "turn_right"].filter((name) => names.includes(name));
  return { cross, others: names.filter((name) => !cross.includes(name)) };
}
