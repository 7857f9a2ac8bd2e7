// Types of what a plugin imports. The words are those of `wit/plugin.wit`.

/** A field that was declared in `configure`, for reading and writing. */
export type Field = number & { readonly __field: unique symbol };
/** An output of the stream, for `route`. */
export type Output = number & { readonly __output: unique symbol };

/** In place of a value: takes the field, key, attribute or partition value away. */
export declare const REMOVE: unique symbol;

/** An entry of a column to write: `undefined` leaves the row alone, `null` sets JSON's null. */
export type Write<T> = T | null | undefined | typeof REMOVE;

/** What can be written as JSON. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined };

/** A column as read: one value per row, `undefined` where there is none of the type that was asked for. */
export interface Column<T> extends Iterable<T | undefined> {
  readonly length: number;
  get(row: number): T | undefined;
  /** All values, for loops that have to be fast. Not to be changed. */
  toArray(): readonly (T | undefined)[];
  /** What `work` makes of each value; `undefined` where there is none. */
  map<U>(work: (value: T, row: number) => U): (U | undefined)[];
  isMissing(row: number): boolean;
  isNull(row: number): boolean;
  /** There is a value, but of another type. */
  isOther(row: number): boolean;
}

/** Strings that can also be read as the bytes that they are. */
export interface Texts extends Column<string> {
  bytes(row: number): Uint8Array | undefined;
}

/** What `configure` may ask for. */
export interface Setup {
  /** The field at this path of object keys, outermost first. */
  field(...path: string[]): Field;
  output(name: string): Output;
  secret(name: string): string;
  file(name: string): Uint8Array;
  /** A granted file that is UTF-8. */
  fileText(name: string): string;
}

/** Rows of one call. Reads never see pending writes; all writes are applied together when `process` returns. */
export interface Chunk {
  readonly length: number;
  /** The same on every attempt at this chunk; `Math.random` is drawn from it. */
  readonly seed: bigint;
  /** Offsets in the stream; -1n for fresh rows. */
  offsets(): BigInt64Array;
  /** Nanoseconds since the epoch. */
  arrivalTimes(): BigInt64Array;
  payloads(): Texts;
  keys(): Texts;
  attributes(name: string): Texts;
  /** Strings of JSON. */
  text(field: Field): Column<string>;
  /** Any value as the JSON text that it has. */
  raw(field: Field): Texts;
  /** Any value, parsed. */
  values(field: Field): Column<any>;
  numbers(field: Field): Column<number>;
  /** Exact; a number that is no 64-bit integer is of another type. */
  ints(field: Field): Column<bigint>;
  setText(field: Field, values: readonly Write<string | Uint8Array>[]): void;
  /** One JSON text each. */
  setRaw(field: Field, values: readonly Write<string | Uint8Array>[]): void;
  /** Anything that has JSON. */
  setValues(field: Field, values: readonly (Json | undefined | typeof REMOVE)[]): void;
  /** As JSON.stringify writes them; NaN and the infinities fail their rows. */
  setNumbers(field: Field, values: readonly Write<number>[] | Float64Array): void;
  setInts(field: Field, values: readonly Write<bigint | number>[] | BigInt64Array): void;
  setPayloads(values: readonly (string | Uint8Array | undefined)[]): void;
  /** Marked rows start from `{}` and get only the fields that are set. */
  clear(rows: readonly boolean[] | Uint8Array): void;
  setKeys(values: readonly Write<string | Uint8Array>[]): void;
  setAttributes(name: string, values: readonly Write<string | Uint8Array>[]): void;
  partition(name: string, values: readonly Write<string | Uint8Array>[]): void;
  /** The output of each row. */
  route(outputs: readonly Output[]): void;
  /** Rows that are not marked are dropped. */
  keep(rows: readonly boolean[] | Uint8Array): void;
  /** Fails one row: with exactly this text, or with an exception's message and traceback. */
  fail(row: number, reason: string | Error): void;
  /** New rows, each a copy of the row whose number stands in `sources`. They leave when they are emitted. */
  derive(sources: readonly number[] | Uint32Array): Chunk;
  /** Rows without a source: `{}`. */
  fresh(rows: number): Chunk;
  /** Lets derived or fresh rows leave, derived ones in the place of their sources. */
  emit(rows: Chunk): void;
}

/** What is known of a record besides its payload. */
export interface Meta {
  readonly offset: number;
  /** Nanoseconds since the epoch. */
  readonly arrivalTime: bigint;
  readonly arrivalMs: number;
  readonly key: string | undefined;
  attribute(name: string): string | undefined;
}

/** A plugin as a module exports it. */
export interface Plugin {
  configure(config: unknown, setup: Setup): unknown;
  process(rows: Chunk, state: never): void;
}

export interface ColumnPlugin<State> {
  /** Declares fields and returns what `process` gets. An exception refuses the config. */
  configure?(config: any, setup: Setup): State;
  /** An exception makes the host look for the guilty record. */
  process(rows: Chunk, state: State): void;
}

export interface RecordPlugin<In, Out, State> {
  configure?(config: any, setup: Setup): State;
  /** The new record, `undefined` or `null` to drop it, or an array of those to put in its place. */
  record(record: In, meta: Meta, state: State): Out | readonly Out[] | null | undefined;
}

export function byColumn<State = undefined>(plugin: ColumnPlugin<State>): Plugin;
export function byRecord<In = any, Out = any, State = undefined>(plugin: RecordPlugin<In, Out, State>): Plugin;

/** A record that makes no sense: it fails with exactly this reason, without a traceback. */
export declare class BadRecord extends Error {
  constructor(reason: string);
}

type Shape = { readonly [key: string]: unknown };
type Read<S extends Shape> = {
  -readonly [K in keyof S]: S[K] extends StringConstructor
    ? string
    : S[K] extends NumberConstructor
      ? number
      : S[K] extends BooleanConstructor
        ? boolean
        : S[K] extends undefined
          ? unknown
          : Widened<S[K]>;
};
type Widened<T> = T extends string ? string : T extends number ? number : T extends boolean ? boolean : T;

/**
 * The config with what it lacks filled in; refuses unknown keys and other types. `shape` has for each key its default,
 * or one of `String`, `Number`, `Boolean` for a key that must be there.
 */
export function readConfig<const S extends Shape>(config: unknown, shape: S): Read<S>;

/** The plugin's log. `console` goes there too. */
export declare const log: Record<"debug" | "info" | "warn" | "error", (...parts: unknown[]) => void>;
