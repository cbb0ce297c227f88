// The .d.ts declare what the modules are, no less and no more.

import * as declaredCheck from "./declared/diagnose.js";
import * as declared from "./declared/holdfast.js";
import * as realCheck from "./real/diagnose.js";
import * as real from "./real/holdfast.js";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** What is not meant for users begins with an underscore. */
type Public<T> = Exclude<keyof T, `_${string}`>;

/** Every part of the real thing can be used as declared. */
type RealMessage = { [Key in keyof real.Message]: real.Message[Key] };
export const client: Omit<declared.Holdfast, "subscribe" | "on" | "once" | "off" | "connect"> = null! as real.Holdfast;
export const subscription: Omit<declared.Subscription, "on" | "once" | "off"> = null! as real.Subscription;
export const error: declared.HoldfastError = null! as real.HoldfastError;
export const construct: new (...parameters: ConstructorParameters<typeof declared.Holdfast>) => unknown = real.Holdfast;
export const on: (...parameters: Parameters<declared.Holdfast["on"]>) => unknown = null! as (...parameters: Parameters<real.Holdfast["on"]>) => unknown;

/** And the other way: nothing is missing in the declarations. */
export const same: [
  Same<Public<real.Holdfast>, keyof declared.Holdfast>,
  Same<Public<real.Subscription>, keyof declared.Subscription>,
  Same<keyof real.HoldfastError, keyof declared.HoldfastError>,
  Same<keyof real.ClientEvents, keyof declared.ClientEvents>,
  Same<keyof real.SubscriptionEvents, keyof declared.SubscriptionEvents>,
  Same<Required<real.Options>, Required<declared.Options>>,
  Same<real.StateEvent, declared.StateEvent>,
  Same<real.ConnectedEvent, declared.ConnectedEvent>,
  Same<real.RecoveredEvent, declared.RecoveredEvent>,
  Same<real.GapEvent, declared.GapEvent>,
  Same<keyof real.DeliveredEvent, keyof declared.DeliveredEvent>,
  Same<RealMessage, declared.Message>,
  Same<real.SubscribedEvent, declared.SubscribedEvent>,
  Same<real.State, declared.State>,
  Same<real.Position, declared.Position>,
  Same<ReturnType<real.Holdfast["stats"]>, declared.Stats>,
  Same<real.Transport, declared.Transport>,
  Same<Parameters<typeof realCheck.diagnose>, Parameters<typeof declaredCheck.diagnose>>,
  Same<ReturnType<typeof realCheck.diagnose>, ReturnType<typeof declaredCheck.diagnose>>,
  Same<ReturnType<real.Holdfast["diagnose"]>, ReturnType<declared.Holdfast["diagnose"]>>,
] = [true, true, true, true, true, true, true, true, true, true, true, true, true, true, true, true, true, true, true, true];
