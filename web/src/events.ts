/** Takes the data of server-sent events (WHATWG HTML, 9.2.6) out of a text that comes in pieces. */
export class EventReader {
  private rest = "";
  private data: string[] = [];

  /** The data of every event that this piece completes. */
  push(piece: string): string[] {
    const events: string[] = [];
    const lines = (this.rest + piece).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (this.data.length > 0) events.push(this.data.join("\n"));
        this.data = [];
      } else if (line.startsWith("data:")) {
        this.data.push(line.slice(line.startsWith("data: ") ? 6 : 5));
      }
    }
    return events;
  }
}
