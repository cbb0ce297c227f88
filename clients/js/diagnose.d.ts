// Types of diagnose.js. Tests/JavaScript/types.test.js keeps the two in step.
// SPDX-License-Identifier: Apache-2.0

export type CheckName = "http" | "websocket" | "session" | "stream" | "poll";

export type Check = {
  name: CheckName;
  /** null: it runs. */
  ok: boolean | null;
  /** How long it took, or how long it was waited for. */
  ms: number | null;
  /** In words. */
  detail: string;
};

export type Diagnosis = {
  /** The best transport that works. */
  verdict: "websocket" | "stream" | "poll" | "none";
  /** One or two sentences that can be forwarded. */
  text: string;
  checks: Check[];
  /** What those can do who run the server, or what stands before it. */
  advice: string[];
};

/** The client's options of these names; others are ignored. */
export interface DiagnoseOptions {
  headers?: Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);
  withCredentials?: boolean;
  WebSocket?: any;
  fetch?: typeof globalThis.fetch;
  now?: () => number;
  /** Called when a check begins, and when it has ended. */
  onCheck?: (check: Check) => void;
}

/**
 * What stands between this page and a gateway: tries each way once, on lines of its own.
 * @param url as of the client (default "/socket")
 */
export function diagnose(url?: string, options?: DiagnoseOptions): Promise<Diagnosis>;
