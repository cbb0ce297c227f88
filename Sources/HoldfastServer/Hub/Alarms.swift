import HeapModule
import HoldfastCore

/// A time at which a subscription has something to do.
///
/// An object of its own, so that one that is still in the heap of a loop which the subscription has left finds nothing, instead
/// of a subscription that belongs to another thread.
final class Alarm: Comparable {
    let at: Instant
    fileprivate(set) var subscription: Subscription?

    fileprivate init(at: Instant, _ subscription: Subscription) {
        self.at = at
        self.subscription = subscription
    }

    static func < (left: Alarm, right: Alarm) -> Bool { left.at < right.at }
    static func == (left: Alarm, right: Alarm) -> Bool { left.at == right.at }
}

/// Wakes the subscriptions of one loop at their time: throttles, renewals and heartbeats of services.
///
/// Exact, unlike the timer wheel, which is a tick early; and one scheduled task for all, since a thousand subscribers of a
/// throttled topic wait for the same moment.
struct Alarms {
    private var heap = Heap<Alarm>()
    private var cancelled = 0

    /// - Parameter time: `nil` for none.
    /// - Returns: whether this is the earliest now.
    mutating func set(_ subscription: Subscription, at time: Instant?) -> Bool {
        guard subscription.alarm?.at != time else { return false }
        if let alarm = subscription.alarm {
            alarm.subscription = nil
            subscription.alarm = nil
            self.cancelled += 1
            self.dropCancelled()
        }
        guard let time else { return false }
        let isEarliest = self.heap.min.map { time < $0.at } ?? true
        let alarm = Alarm(at: time, subscription)
        subscription.alarm = alarm
        self.heap.insert(alarm)
        return isEarliest
    }

    /// Those that were cancelled and not yet thrown away included.
    var count: Int { self.heap.count }

    var next: Instant? { self.heap.min?.at }

    /// Those whose time has come.
    mutating func due(_ now: Instant) -> [Subscription] {
        var due: [Subscription] = []
        while let first = self.heap.min, first.at <= now {
            self.heap.removeMin()
            guard let subscription = first.subscription else {
                self.cancelled -= 1
                continue
            }
            subscription.alarm = nil
            due.append(subscription)
        }
        return due
    }

    private mutating func dropCancelled() {
        guard self.cancelled > 64, self.cancelled > self.heap.count / 2 else { return }
        self.heap = Heap(self.heap.unordered.filter { $0.subscription != nil })
        self.cancelled = 0
    }
}
