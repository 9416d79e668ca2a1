"""The keys that are the window's own, and those that a world may not bind."""

PROMPT_KEY = ("Return", "tell the world what to show")
MOUSE_KEY = ("Click", "turn with the mouse, until Esc")
WINDOW_KEYS = (
    PROMPT_KEY,
    MOUSE_KEY,
    ("R", "new world, next seed"),
    ("Shift R", "same world from its start"),
    ("P", "pause"),
    ("F5 / F9", "quick-save / quick-load"),
    ("F6 / F7", "let others watch / hand the world over"),
    ("F3", "figures"),
    ("F11", "full screen"),
    ("F12", "screenshot"),
    ("F1 / H", "this help"),
    ("Esc", "quit"),
)
RESERVED = ("return", "r", "p", "h", "f1", "f3", "f5", "f6", "f7", "f9", "f11", "f12")
