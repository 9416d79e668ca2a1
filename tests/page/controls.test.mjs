import assert from "node:assert/strict";
import { test } from "node:test";
import { Controls, keyName, padButtons, touchLayout } from "../../helios_world/gateway/web/controls.js";

const CARD = {
  buttons: ["forward", "back", "strafe_left", "strafe_right", "turn_left", "turn_right", "attack"],
  bindings: { w: "forward", up: "forward", left: "turn_left", right: "turn_right", space: "attack", "left shift": "back" },
};
const key = (code, named = code) => ({ code, key: named });

test("keys have the names that pygame gives them", () => {
  const named = [
    ["KeyW", "w", "w"], ["KeyW", "W", "w"], ["KeyW", "z", "z"], ["KeyW", "ц", "w"], ["Digit1", "!", "1"],
    ["ArrowLeft", "ArrowLeft", "left"], ["Space", " ", "space"], ["Enter", "Enter", "return"], ["F3", "F3", "f3"],
    ["F12", "F12", "f12"], ["Numpad4", "4", "[4]"], ["ShiftLeft", "Shift", "left shift"], ["PageUp", "PageUp", "page up"],
    ["Quote", "'", "'"], ["MediaPlay", "MediaPlay", ""],
  ];
  for (const [code, printed, name] of named) assert.equal(keyName(key(code, printed)), name, `${code} ${printed}`);
});

test("a button is held until the last of its keys is up", () => {
  const controls = new Controls(CARD);
  assert.ok(controls.press(key("KeyW", "w")) && controls.press(key("ArrowUp")));
  assert.equal(controls.press(key("KeyX", "x")), false);
  controls.release("KeyW");
  assert.deepEqual(controls.held, ["forward"]);
  controls.release("ArrowUp");
  assert.deepEqual(controls.held, []);
});

test("a key that is called otherwise when it goes up is let go all the same", () => {
  const controls = new Controls({ ...CARD, bindings: { w: "forward" } });
  controls.press(key("KeyW", "W"));
  controls.release("KeyW");
  assert.deepEqual(controls.held, []);
});

test("names of the language are no keys", () => {
  const controls = new Controls(CARD);
  assert.equal(controls.press(key("constructor", "constructor")), false);
  assert.deepEqual(controls.held, []);
});

test("fingers hold a button each, and letting go lets all go", () => {
  const controls = new Controls(CARD);
  controls.touch(1, "forward");
  controls.touch(2, "attack");
  controls.press(key("ArrowLeft"));
  assert.deepEqual(controls.held, ["attack", "forward", "turn_left"]);
  controls.touch(1, null);
  assert.deepEqual(controls.held, ["attack", "turn_left"]);
  controls.releaseAll();
  assert.deepEqual(controls.held, []);
});

test("a gamepad moves, turns and acts, as far as the world can", () => {
  const pad = (axes, ...pressed) => ({
    axes,
    buttons: Array.from({ length: 16 }, (_, k) => ({ pressed: pressed.includes(k) })),
  });
  const held = (gamepad, names = CARD.buttons) => [...padButtons(gamepad, names)].sort();
  assert.deepEqual(held(pad([0, -1, 0, 0])), ["forward"]);
  assert.deepEqual(held(pad([-0.9, 0.9, 0, 0])), ["back", "strafe_left"]);
  assert.deepEqual(held(pad([0.1, -0.2, 0.3, 0])), []);
  assert.deepEqual(held(pad([0, 0, 1, 0], 0)), ["attack", "turn_right"]);
  assert.deepEqual(held(pad([0, 0, 0, 0], 12, 14, 7)), ["attack", "forward", "turn_left"]);
  assert.deepEqual(held(pad([-1, 0]), ["turn_left", "turn_right"]), ["turn_left"]);
  assert.deepEqual(held(pad([0, 0, 0, -1]), ["look_up"]), ["look_up"]);
  assert.deepEqual(held({ axes: [], buttons: [] }), []);
});

test("a touch screen has every button once", () => {
  const { cross, others } = touchLayout(CARD.buttons);
  assert.deepEqual(cross, ["forward", "turn_left", "back", "turn_right"]);
  assert.deepEqual([...cross, ...others].sort(), [...CARD.buttons].sort());
});
