/// Something that the wheel can wake. It stands in the wheel at most once.
public protocol WheelTimer: AnyObject {
    /// The wheel's own note: the tick at which this timer is to be looked at, or -1.
    var wheelTick: Int64 { get set }
}

/// A hashed timer wheel: one sweep per tick for all timers of an event loop, instead of a scheduled task per connection.
///
/// Setting and moving a timer is O(1). A timer fires at the last tick at or before its deadline, so up to one tick early
/// and never late by more than the sweep itself: a bound such as "let go within 30 s" then holds with the tick counted in.
/// A deadline nearer than a tick is due with the next sweep. One further away than the wheel is long is looked at when the
/// wheel comes round, and its owner sets it again; an entry keeps no deadline of its own, which would go stale.
public struct TimerWheel<Timer: WheelTimer> {
    private struct Entry {
        let timer: Timer
        let tick: Int64
    }

    public let tick: Span
    private var slots: [[Entry]]
    /// The last tick that has been swept.
    private var current: Int64
    /// Entries in the wheel, stale ones included.
    public private(set) var count = 0

    /// - Parameters:
    ///   - tick: the wheel's resolution.
    ///   - slots: a power of two.
    public init(tick: Span = .milliseconds(100), slots: Int = 512, now: Instant) {
        precondition(slots > 0 && slots & (slots - 1) == 0, "the number of slots must be a power of two")
        self.tick = tick
        self.slots = Array(repeating: [], count: slots)
        self.current = now.microseconds / tick.microseconds
    }

    /// Sets or moves a timer. An earlier entry of the same timer becomes stale.
    public mutating func set(_ timer: Timer, at deadline: Instant) {
        let wanted = deadline.microseconds / self.tick.microseconds
        self.insert(timer, deadline: max(wanted, self.current + 1))
    }

    /// Forgets a timer; its entry dies when its slot is swept.
    public mutating func cancel(_ timer: Timer) {
        timer.wheelTick = -1
    }

    private mutating func insert(_ timer: Timer, deadline: Int64) {
        let tick = min(deadline, self.current + Int64(self.slots.count))
        // A timer moved later keeps its entry: when that fires, the owner looks at the time and sets it again.
        if timer.wheelTick > self.current, timer.wheelTick <= tick { return }
        timer.wheelTick = tick
        self.slots[Int(tick) & (self.slots.count - 1)].append(Entry(timer: timer, tick: tick))
        self.count += 1
    }

    /// Moves the wheel on to `now`.
    /// - Returns: timers to look at. A timer that was moved later since it was set is among them: its owner compares its
    ///   deadline with the time and sets it again.
    public mutating func advance(to now: Instant) -> [Timer] {
        let target = now.microseconds / self.tick.microseconds
        guard target > self.current else { return [] }
        var due: [Timer] = []
        // After a long pause one turn of the wheel sees every slot.
        let first = max(self.current + 1, target - Int64(self.slots.count) + 1)
        self.current = target
        for tick in first...target {
            let index = Int(tick) & (self.slots.count - 1)
            guard !self.slots[index].isEmpty else { continue }
            let entries = self.slots[index]
            self.slots[index] = []
            self.count -= entries.count
            for entry in entries where entry.timer.wheelTick == entry.tick {
                entry.timer.wheelTick = -1
                due.append(entry.timer)
            }
        }
        return due
    }
}
