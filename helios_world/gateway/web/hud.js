// What is written over the picture, as plain data: figures, score, help. Knows no page.

// (label, value) of the panel.
export function figures(stats, seed, status) {
  return [
    ["shown", `${stats.shownFps.toFixed(1)} fps`],
    ["chunk", spread(stats.chunkMs)],
    ["round trip", spread(stats.roundTripMs)],
    ["key to pixels", spread(stats.keyToPixelsMs)],
    ["late chunks", String(stats.lateChunks)],
    ["seed", String(seed)],
    ["status", status],
  ];
}

function spread(pair) {
  return pair === null ? "-" : `${pair[0].toFixed(0)} / ${pair[1].toFixed(0)} ms`;
}

// A sum of rewards as people read it.
export function points(total) {
  return String(Math.round(total * 100) / 100);
}

// (keys, meaning) of the help; null for a gap.
export function helpSheet(card) {
  const keys = new Map();
  for (const [key, button] of Object.entries(card?.bindings ?? {})) keys.set(button, [...(keys.get(button) ?? []), key]);
  const world = [...keys].map(([button, names]) => [names.map(keyLabel).join(", "), words(button)]);
  return [
    ...world,
    ...(world.length ? [null] : []),
    ...(card?.takes_prompt ? [["Enter", "tell the world what to show"]] : []),
    ["R", "new world, next seed"],
    ["Shift R", "same world from its start"],
    ["P", "pause"],
    ["F3", "figures"],
    ["F1, H", "this help"],
    ["F11", "full screen"],
  ];
}

export function words(button) {
  return button.replaceAll("_", " ");
}

function keyLabel(name) {
  return name.length === 1 ? name.toUpperCase() : name[0].toUpperCase() + name.slice(1);
}
