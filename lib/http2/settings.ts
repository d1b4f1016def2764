/**
 * The settings that each side announces, what they may be, and what holds until they come
 * (RFC 9113 section 6.5; RFC 8441 section 3; RFC 9218 section 2.1).
 *
 * @module
 */
import { MAX_MAX_FRAME_BYTES, MAX_WINDOW, MIN_MAX_FRAME_BYTES } from "./bounds.ts";
import { connectionFault, ErrorCode, type Http2Fault } from "./error_code.ts";

/** The settings that are known here; others are ignored. */
export const SettingId = {
  HeaderTableSize: 0x01,
  EnablePush: 0x02,
  MaxConcurrentStreams: 0x03,
  InitialWindowSize: 0x04,
  MaxFrameSize: 0x05,
  MaxHeaderListSize: 0x06,
  EnableConnectProtocol: 0x08,
  NoRfc7540Priorities: 0x09,
} as const;

/** The length of one setting in a SETTINGS frame, in bytes. */
export const SETTING_BYTES = 6;
/** The size of every window until SETTINGS or WINDOW_UPDATE change it, in bytes. */
export const DEFAULT_WINDOW = 65_535;

/** Returns what is wrong with a setting, which ends the connection. */
export function checkSetting(id: number, value: number): Http2Fault | undefined {
  switch (id) {
    case SettingId.InitialWindowSize:
      if (value <= MAX_WINDOW) return undefined;
      return connectionFault(
        ErrorCode.FlowControlError,
        `SETTINGS_INITIAL_WINDOW_SIZE is ${value}: send at most ${MAX_WINDOW}`,
      );
    case SettingId.MaxFrameSize:
      if (value >= MIN_MAX_FRAME_BYTES && value <= MAX_MAX_FRAME_BYTES) return undefined;
      return connectionFault(
        ErrorCode.ProtocolError,
        `SETTINGS_MAX_FRAME_SIZE is ${value}: send ${MIN_MAX_FRAME_BYTES} to ${MAX_MAX_FRAME_BYTES}`,
      );
    case SettingId.EnablePush:
    case SettingId.EnableConnectProtocol:
    case SettingId.NoRfc7540Priorities:
      if (value <= 1) return undefined;
      return connectionFault(ErrorCode.ProtocolError, `Setting ${id} is ${value}: send 0 or 1`);
    default:
      return undefined;
  }
}

/** What changes with the peer's settings, in the order in which the peer wrote them. */
export interface SettingsListener {
  /** The HPACK table that this side's encoder uses may have so many bytes from now on. */
  headerTableSize(bytes: number): void;
  /** Every stream's send window changes by `delta` bytes (RFC 9113 section 6.9.2). */
  initialWindowSize(delta: number): void;
}

/** What the client has announced. */
export class PeerSettings {
  /** The most bytes of the HPACK table of this side's encoder. */
  headerTableSize = 4096;
  /** The send window of a new stream, in bytes. */
  initialWindowSize: number = DEFAULT_WINDOW;
  /** The longest payload of a frame that the client takes, in bytes. */
  maxFrameBytes: number = MIN_MAX_FRAME_BYTES;
  /** The longest field section that the client wants, as HPACK counts it; a hint. */
  maxHeaderListBytes: number = Infinity;
  /** Whether the client sends no priorities of RFC 7540; `undefined` until it has said so. */
  noRfc7540Priorities: boolean | undefined;

  /**
   * Applies a SETTINGS frame, entries of id and value by turns that {@linkcode checkSetting} has
   * passed, and reports each change in its turn.
   */
  apply(entries: readonly number[], listener: SettingsListener): void {
    for (let i = 0; i < entries.length; i += 2) this.#set(entries[i]!, entries[i + 1]!, listener);
  }

  #set(id: number, value: number, listener: SettingsListener): void {
    switch (id) {
      case SettingId.HeaderTableSize:
        this.headerTableSize = value;
        listener.headerTableSize(value);
        break;
      case SettingId.InitialWindowSize: {
        const delta = value - this.initialWindowSize;
        this.initialWindowSize = value;
        if (delta !== 0) listener.initialWindowSize(delta);
        break;
      }
      case SettingId.MaxFrameSize:
        this.maxFrameBytes = value;
        break;
      case SettingId.MaxHeaderListSize:
        this.maxHeaderListBytes = value;
        break;
      case SettingId.NoRfc7540Priorities:
        this.noRfc7540Priorities ??= value === 1;
    }
  }
}

/** What this server announces; lengths in bytes. */
export interface OwnSettings {
  /** The HPACK table of this side's decoder. */
  readonly headerTableSize: number;
  /** How many streams a client may have open. */
  readonly maxConcurrentStreams: number;
  /** The receive window of a new stream. */
  readonly initialWindowSize: number;
  /** The longest payload of a frame. */
  readonly maxFrameBytes: number;
  /** The longest field section, as HPACK counts it: names, values and 32 for each field. */
  readonly maxHeaderListBytes: number;
  /** Whether a WebSocket may be opened on a stream (RFC 8441). */
  readonly enableConnectProtocol: boolean;
}

/**
 * The entries of the SETTINGS frame that announces `own`, id and value by turns; what is the default
 * is left out. Priorities are those of RFC 9218 alone, which the first SETTINGS frame has to say.
 */
export function settingsEntries(own: OwnSettings): number[] {
  const entries: [id: number, value: number, initial: number][] = [
    [SettingId.HeaderTableSize, own.headerTableSize, 4096],
    [SettingId.MaxConcurrentStreams, own.maxConcurrentStreams, Infinity],
    [SettingId.InitialWindowSize, own.initialWindowSize, DEFAULT_WINDOW],
    [SettingId.MaxFrameSize, own.maxFrameBytes, MIN_MAX_FRAME_BYTES],
    [SettingId.MaxHeaderListSize, own.maxHeaderListBytes, Infinity],
    [SettingId.EnableConnectProtocol, own.enableConnectProtocol ? 1 : 0, 0],
    [SettingId.NoRfc7540Priorities, 1, 0],
  ];
  return entries.filter(([, value, initial]) => value !== initial)
    .flatMap(([id, value]) => [id, value]);
}
