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
    init(_ deadline: NIODeadline) {
        self.init(microseconds: Int64(deadline.uptimeNanoseconds / 1000))
    }
}

extension Shard {
    /// The loop's clock, which never jumps. In a simulation time is what the loop says it is.
    var now: Instant { Instant(self.loop.now) }
}
