import HoldfastCore
import NIOCore

/// Something on an event loop that has a deadline. One wheel per loop sweeps them all.
class LoopTimer: WheelTimer {
    final var wheelTick: Int64 = -1

    /// The earliest moment at which ``timerFired(now:)`` has something to do; `nil` for none.
    var deadline: Instant? { nil }

    /// Called at or after the deadline.
    func timerFired(now: Instant) {}
}

extension Instant {
    /// The event loops' clock, which never jumps.
    static var now: Instant {
        Instant(microseconds: Int64(NIODeadline.now().uptimeNanoseconds / 1000))
    }
}
