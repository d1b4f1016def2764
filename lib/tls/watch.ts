/** Stub until the real one lands. @module */
/** Stub. */
export class FileWatcher {
  constructor(
    _files: readonly string[],
    _intervalMs: number,
    _on: { changed(): void; failed(error: never): void },
  ) {}
  close(): void {}
}
