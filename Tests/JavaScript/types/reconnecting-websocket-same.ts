// The .d.ts declares what the module is, no less and no more.

import * as declared from "./declared/reconnecting-websocket.js";
import * as real from "./real/reconnecting-websocket.js";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** What is not meant for users begins with an underscore. */
type Public<T> = Exclude<keyof T, `_${string}`>;
type Methods = "addEventListener" | "removeEventListener";

/** Every part of the real thing can be used as declared. */
export const object: Omit<declared.ReconnectingWebSocket, Methods> = null! as real.ReconnectingWebSocket;
export const construct: new (...parameters: ConstructorParameters<typeof declared.ReconnectingWebSocket>) => unknown =
  real.ReconnectingWebSocket;
export const error: declared.ErrorEvent = null! as real.ErrorEvent;
export const close: declared.CloseEvent = null! as real.CloseEvent;
export const listen: (...parameters: Parameters<declared.ReconnectingWebSocket[Methods]>) => unknown =
  null! as (...parameters: Parameters<real.ReconnectingWebSocket[Methods]>) => unknown;

/** And the other way: nothing is missing in the declarations. */
export const same: [
  Same<Public<real.ReconnectingWebSocket>, keyof declared.ReconnectingWebSocket>,
  Same<keyof typeof real.ReconnectingWebSocket, keyof typeof declared.ReconnectingWebSocket>,
  Same<keyof typeof real, keyof typeof declared>,
  Same<keyof real.ErrorEvent, keyof declared.ErrorEvent>,
  Same<keyof real.CloseEvent, keyof declared.CloseEvent>,
  Same<Required<real.Options>, Required<declared.Options>>,
  Same<Required<real.HeartbeatOptions>, Required<declared.HeartbeatOptions>>,
  Same<real.UrlProvider, declared.UrlProvider>,
  Same<real.ProtocolsProvider, declared.ProtocolsProvider>,
  Same<real.Message, declared.Message>,
  Same<keyof real.EventMap, keyof declared.EventMap>,
] = [true, true, true, true, true, true, true, true, true, true, true];
