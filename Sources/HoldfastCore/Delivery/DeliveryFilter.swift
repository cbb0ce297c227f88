import DequeModule
import HeapModule
import HoldfastProtocol

/// Decides for one subscription which publications its session gets, and when (socketshark.md §9): fields, order, throttle.
///
/// Sans-IO, and generic over what is held back, since it only hands that out again.
public struct DeliveryFilter<Item> {
    /// Why a publication does not reach a session. The words are labels of the metrics.
    public enum Reason: String, Sendable, CaseIterable {
        case fields, order
        /// A newer one came under the same throttle key before it was due.
        case throttle
    }

    public enum Verdict: Equatable, Sendable {
        case deliver
        case drop(Reason)
        /// Kept; ``release(now:)`` hands it out once `until` has come. `isReplacement`: one that waited was dropped for it.
        case hold(until: Instant, isReplacement: Bool)
    }

    private struct Throttle {
        /// When the last one under this key was sent.
        var start: Instant
        var held: (item: Item, until: Instant)?
    }

    /// Something is held under a key: one entry for each.
    private struct Due: Comparable {
        let until: Instant
        /// Of two that are due at once, the one that began to wait first goes first.
        let number: UInt64
        let key: Key

        static func == (left: Due, right: Due) -> Bool { left.number == right.number }
        static func < (left: Due, right: Due) -> Bool {
            left.until == right.until ? left.number < right.number : left.until < right.until
        }
    }

    private typealias Key = ComparableValue?

    private let limit: Int
    private var orders: [Key: Double] = [:]
    private var orderAges = Deque<Key>()
    private var throttles: [Key: Throttle] = [:]
    private var throttleAges = Deque<Key>()
    private var dues = Heap<Due>()
    private var holds: UInt64 = 0

    /// - Parameter limit: keys that are remembered, of each kind; beyond it the oldest are forgotten (`limits.delivery_keys`).
    public init(limit: Int) {
        self.limit = max(1, limit)
    }

    public var heldCount: Int { self.dues.count }

    /// When the next item that is held back is due.
    public var deadline: Instant? { self.dues.min?.until }

    /// A subscription begins with a snapshot, which counts as the first publication (socketshark.md §5.2).
    public mutating func begin(_ conditions: DeliveryConditions, now: Instant) {
        if let order = conditions.order { _ = self.advance(order, conditions.orderKey) }
        guard conditions.throttle != nil else { return }
        self.throttles[conditions.throttleKey] = Throttle(start: now, held: nil)
        self.throttleAges.append(conditions.throttleKey)
    }

    /// - Parameters:
    ///   - has: the session's value of a filter field; `.null` where it has none.
    ///   - item: what to hold back, if need be.
    public mutating func admit(
        _ conditions: DeliveryConditions,
        _ item: Item,
        now: Instant,
        has: (String) -> ComparableValue
    ) -> Verdict {
        for field in conditions.fields where has(field.name) != field.value { return .drop(.fields) }
        if let order = conditions.order, !self.advance(order, conditions.orderKey) { return .drop(.order) }
        guard let throttle = conditions.throttle else { return .deliver }
        return self.admit(throttle: throttle, conditions.throttleKey, item, now: now)
    }

    private mutating func advance(_ order: Double, _ key: ComparableValue?) -> Bool {
        if let last = self.orders[key] {
            guard order > last else { return false }
        } else {
            if self.orders.count >= self.limit, let oldest = self.orderAges.popFirst() { self.orders[oldest] = nil }
            self.orderAges.append(key)
        }
        self.orders[key] = order
        return true
    }

    private mutating func admit(
        throttle seconds: Double,
        _ key: ComparableValue?,
        _ item: Item,
        now: Instant
    ) -> Verdict {
        // A year is for ever, and larger ones do not fit into a time.
        let span = Span.seconds(min(max(0, seconds), 31_536_000))
        guard let state = self.throttles[key] else {
            // Without room there is no throttle, rather than a message that is lost.
            guard self.makeRoom() else { return .deliver }
            self.throttles[key] = Throttle(start: now, held: nil)
            self.throttleAges.append(key)
            return .deliver
        }
        if let held = state.held {
            self.throttles[key]?.held = (item, held.until)
            return .hold(until: held.until, isReplacement: true)
        }
        let until = state.start + span
        guard until > now else {
            self.throttles[key]?.start = now
            return .deliver
        }
        self.throttles[key]?.held = (item, until)
        self.holds += 1
        self.dues.insert(Due(until: until, number: self.holds, key: key))
        return .hold(until: until, isReplacement: false)
    }

    /// Forgets the oldest window in which nothing waits, so that what waits is never lost.
    /// - Returns: `false` if something waits in each.
    private mutating func makeRoom() -> Bool {
        guard self.throttles.count >= self.limit else { return true }
        guard self.heldCount < self.throttles.count else { return false }
        while let oldest = self.throttleAges.popFirst() {
            if self.throttles[oldest]?.held == nil {
                self.throttles[oldest] = nil
                return true
            }
            self.throttleAges.append(oldest)
        }
        return false
    }

    /// What is due, in the order in which it became so. A new window begins for each.
    public mutating func release(now: Instant) -> [Item] {
        var items: [Item] = []
        while let due = self.dues.min, due.until <= now {
            self.dues.removeMin()
            guard let held = self.throttles[due.key]?.held else { continue }
            items.append(held.item)
            self.throttles[due.key] = Throttle(start: now, held: nil)
        }
        return items
    }
}
