"""SVG pictures of figures, without a library: text, bars, lines and dots."""

from html import escape

WIDTH = 720
INK, GRID = "#24292f", "#d0d7de"
# Readable on white and on dark, and apart for the colour-blind.
BLUE, ORANGE, GREEN = "#3b78c3", "#d9822b", "#3a9d78"


class Drawing:
    def __init__(self, height, title, note):
        self.height = height
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
                      f'font-family="sans-serif" font-size="13" fill="{INK}">',
                      f'<rect width="{WIDTH}" height="{height}" fill="white"/>']
        self.text(16, 24, title, weight="bold", size=15)
        self.text(16, height - 10, note, size=10)

    def text(self, x, y, words, anchor="start", weight="normal", size=13):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
                          f'font-size="{size}">{escape(words)}</text>')

    def bar(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height}" '
                          f'fill="{colour}"/>')

    def line(self, points, colour, width=1.0):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def dot(self, x, y, colour):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')

    def key(self, entries, x, y):
        for words, colour in entries:
            self.bar(x, y - 10, 12, 12, colour)
            self.text(x + 18, y, words)
            x += 32 + 8 * len(words)

    def write(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*self.parts, "</svg>", ""]), encoding="utf-8")
        print(path)


def note_on(rows):
    facts = rows[-1]
    return (f"medians; {facts['cpu']}, {facts['cores']} cores, load {facts['load_1m']}; commit {facts['commit']}, "
            f"{facts['date']}")
