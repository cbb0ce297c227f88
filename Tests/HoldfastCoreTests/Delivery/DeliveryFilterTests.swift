import HoldfastProtocol
import NIOCore
import TestSupport
import Testing

@testable import HoldfastCore

/// The value that a text of JSON stands for.
private func value(_ text: String) -> ComparableValue {
    guard let value = try? JSONValue(parsing: ByteBuffer(string: text)) else { preconditionFailure(text) }
    return ComparableValue(value)
}

/// A filter with short words, that hands out numbers instead of publications.
private struct TestFilter {
    typealias Verdict = DeliveryFilter<Int>.Verdict

    var filter: DeliveryFilter<Int>
    /// What the session has.
    var session: [String: ComparableValue] = [:]
    private var next = 1

    init(limit: Int = 100, session: [String: String] = [:]) {
        self.filter = DeliveryFilter(limit: limit)
        self.session = session.mapValues { value($0) }
    }

    static func conditions(
        order: Double? = nil,
        orderKey: String? = nil,
        throttle: Double? = nil,
        key: String? = nil,
        fields: [(String, String)] = []
    ) -> DeliveryConditions {
        var conditions = DeliveryConditions()
        conditions.order = order
        conditions.orderKey = orderKey.map { value($0) }
        conditions.throttle = throttle
        conditions.throttleKey = key.map { value($0) }
        conditions.fields = fields.map { DeliveryConditions.Field(name: $0.0, value: value($0.1)) }
        return conditions
    }

    /// Publishes 1, 2, 3 and so on.
    mutating func admit(
        order: Double? = nil,
        orderKey: String? = nil,
        throttle: Double? = nil,
        key: String? = nil,
        fields: [(String, String)] = [],
        at seconds: Double = 0
    ) -> Verdict {
        let conditions = Self.conditions(
            order: order, orderKey: orderKey, throttle: throttle, key: key, fields: fields)
        defer { self.next += 1 }
        let session = self.session
        return self.filter.admit(conditions, self.next, now: at(seconds)) { session[$0] ?? .null }
    }

    mutating func release(at seconds: Double) -> [Int] { self.filter.release(now: at(seconds)) }
}

extension DeliveryFilter.Verdict {
    fileprivate static func held(until seconds: Double) -> Self { .hold(until: at(seconds), isReplacement: false) }
    fileprivate static func replaced(until seconds: Double) -> Self { .hold(until: at(seconds), isReplacement: true) }
}

@Suite struct DeliveryFieldsTests {
    @Test func noConditionsDeliver() {
        var test = TestFilter()
        for _ in 0..<3 { #expect(test.admit() == .deliver) }
        #expect(test.filter.deadline == nil)
        #expect(test.release(at: 1000) == [])
    }

    @Test(
        arguments: [
            ("1", "1", true), ("1", "1.0", true), ("1", "true", true), ("0", "false", true), ("1", "\"1\"", false),
            ("1", "2", false), ("\"a\"", "\"a\"", true), ("\"a\"", "\"A\"", false),
            ("[1,{\"a\":2}]", "[1,{\"a\":2.0}]", true),
            ("[1,2]", "[2,1]", false), ("null", "null", true), ("null", "0", false), ("\"\"", "null", false),
        ] as [(String, String, Bool)])
    func oneField(_ has: String, _ wanted: String, _ isDelivered: Bool) {
        var test = TestFilter(session: ["user": has])
        #expect(test.admit(fields: [("user", wanted)]) == (isDelivered ? .deliver : .drop(.fields)))
    }

    /// `null` is for those who have no value.
    @Test func nullIsForThoseWithout() {
        var without = TestFilter()
        #expect(without.admit(fields: [("user", "null")]) == .deliver)
        #expect(without.admit(fields: [("user", "1")]) == .drop(.fields))
        var with = TestFilter(session: ["user": "1"])
        #expect(with.admit(fields: [("user", "null")]) == .drop(.fields))
    }

    @Test func allFieldsMustMatch() {
        var test = TestFilter(session: ["user": "1", "team": "2"])
        #expect(test.admit(fields: [("user", "1"), ("team", "2")]) == .deliver)
        #expect(test.admit(fields: [("user", "1"), ("team", "3")]) == .drop(.fields))
        #expect(test.admit(fields: [("user", "3"), ("team", "2")]) == .drop(.fields))
        #expect(test.admit(fields: [("user", "1"), ("team", "2"), ("other", "1")]) == .drop(.fields))
    }

    /// What is not for the session moves neither its order nor its throttle.
    @Test func fieldsComeFirst() {
        var test = TestFilter(session: ["user": "1"])
        #expect(test.admit(order: 5, throttle: 1, fields: [("user", "2")]) == .drop(.fields))
        #expect(test.admit(order: 1, throttle: 1, fields: [("user", "1")]) == .deliver)
    }
}

@Suite struct DeliveryOrderTests {
    @Test func onlyGreaterIsDelivered() {
        var test = TestFilter()
        let orders: [(Double, Bool)] = [
            (2, true), (2, false), (1, false), (2.5, true), (2.25, false), (-7, false), (2.75, true), (1e300, true),
            (1e300, false),
        ]
        for (order, isDelivered) in orders {
            #expect(test.admit(order: order) == (isDelivered ? .deliver : .drop(.order)), "\(order)")
        }
    }

    @Test func negativeOrdersBeginAnywhere() {
        var test = TestFilter()
        #expect(test.admit(order: -5) == .deliver)
        #expect(test.admit(order: -5.5) == .drop(.order))
        #expect(test.admit(order: 0) == .deliver)
        #expect(test.admit(order: -0.0) == .drop(.order))
    }

    @Test func keysAreApart() {
        var test = TestFilter()
        #expect(test.admit(order: 5) == .deliver)
        #expect(test.admit(order: 3, orderKey: "\"a\"") == .deliver)
        #expect(test.admit(order: 3, orderKey: "\"1\"") == .deliver)
        #expect(test.admit(order: 3, orderKey: "1") == .deliver)
        #expect(test.admit(order: 3, orderKey: "1.0") == .drop(.order))
        #expect(test.admit(order: 4, orderKey: "true") == .deliver)
        #expect(test.admit(order: 4, orderKey: "\"a\"") == .deliver)
        #expect(test.admit(order: 4) == .drop(.order))
        #expect(test.admit(order: 6) == .deliver)
    }

    @Test func withoutOrderPassesAndMovesNothing() {
        var test = TestFilter()
        #expect(test.admit(order: 5) == .deliver)
        #expect(test.admit() == .deliver)
        #expect(test.admit(order: 5) == .drop(.order))
        #expect(test.admit(order: 6) == .deliver)
    }

    /// The order moves on even for what a throttle then replaces.
    @Test func orderComesBeforeThrottle() {
        var test = TestFilter()
        #expect(test.admit(order: 1, throttle: 10) == .deliver)
        #expect(test.admit(order: 3, throttle: 10, at: 1) == .held(until: 10))
        #expect(test.admit(order: 2, throttle: 10, at: 2) == .drop(.order))
        #expect(test.admit(order: 4, throttle: 10, at: 3) == .replaced(until: 10))
        #expect(test.admit(order: 4, at: 4) == .drop(.order))
        #expect(test.release(at: 10) == [4])
    }

    @Test func theSnapshotSeedsTheOrder() {
        var test = TestFilter()
        test.filter.begin(TestFilter.conditions(order: 7, orderKey: "\"a\""), now: at(0))
        #expect(test.admit(order: 7, orderKey: "\"a\"") == .drop(.order))
        #expect(test.admit(order: 6, orderKey: "\"a\"") == .drop(.order))
        #expect(test.admit(order: 1) == .deliver)
        #expect(test.admit(order: 8, orderKey: "\"a\"") == .deliver)
        // It began no window.
        #expect(test.admit(throttle: 10) == .deliver)
    }
}

@Suite struct DeliveryThrottleTests {
    /// A window of 10 s that began at 0 s with publication 1.
    private func open() -> TestFilter {
        var test = TestFilter()
        #expect(test.admit(throttle: 10) == .deliver)
        #expect(test.filter.deadline == nil)
        return test
    }

    @Test func anOpenWindowHoldsBack() {
        var test = self.open()
        #expect(test.admit(throttle: 10, at: 4) == .held(until: 10))
        #expect(test.filter.deadline == at(10))
        #expect(test.filter.heldCount == 1)
        #expect(test.release(at: 9.999999) == [])
        #expect(test.filter.heldCount == 1)
        #expect(test.release(at: 10) == [2])
        #expect(test.filter.heldCount == 0)
        #expect(test.filter.deadline == nil)
        #expect(test.release(at: 30) == [])
    }

    /// The window is as long as the one that comes says, not the one that opened it.
    @Test(arguments: [(3.0, 1.0, nil), (4.0, 1.0, nil), (10, 4, 10.0), (60, 59, 60)] as [(Double, Double, Double?)])
    func itsOwnTimeCounts(_ throttle: Double, _ now: Double, _ until: Double?) {
        var test = self.open()
        let seconds = now + (until == nil ? 4 : 0)
        #expect(test.admit(throttle: throttle, at: seconds) == (until.map { .held(until: $0) } ?? .deliver))
    }

    @Test func aWindowThatIsOverDeliversAndBeginsAnew() {
        var test = self.open()
        #expect(test.admit(throttle: 10, at: 10) == .deliver)
        #expect(test.admit(throttle: 10, at: 19.999999) == .held(until: 20))
    }

    @Test func theLastOneWins() {
        var test = self.open()
        #expect(test.admit(throttle: 10, at: 1) == .held(until: 10))
        #expect(test.admit(throttle: 10, at: 2) == .replaced(until: 10))
        // Its own time is ignored while one waits.
        #expect(test.admit(throttle: 1000, at: 3) == .replaced(until: 10))
        #expect(test.admit(throttle: 0, at: 4) == .replaced(until: 10))
        #expect(test.filter.heldCount == 1)
        #expect(test.filter.deadline == at(10))
        #expect(test.release(at: 10) == [5])
        #expect(test.release(at: 1000) == [])
    }

    /// Due, but the timer has not fired yet: the newer one takes its place rather than pass it.
    @Test func aLateTimerHandsOutTheNewest() {
        var test = self.open()
        #expect(test.admit(throttle: 10, at: 1) == .held(until: 10))
        #expect(test.admit(throttle: 10, at: 12) == .replaced(until: 10))
        #expect(test.filter.deadline == at(10))
        #expect(test.release(at: 12) == [3])
    }

    @Test func aWindowBeginsWithTheRelease() {
        var test = self.open()
        #expect(test.admit(throttle: 10, at: 1) == .held(until: 10))
        #expect(test.release(at: 13) == [2])
        #expect(test.admit(throttle: 10, at: 14) == .held(until: 23))
        #expect(test.release(at: 22) == [])
        #expect(test.release(at: 23) == [3])
        #expect(test.admit(throttle: 10, at: 33) == .deliver)
    }

    /// One at once, one in every window, and the last always.
    @Test func aSteadyStream() {
        var test = TestFilter()
        var delivered: [Int] = []
        for tenths in 0..<35 {
            let now = Double(tenths) / 10
            delivered += test.release(at: now)
            if test.admit(throttle: 1, at: now) == .deliver { delivered.append(tenths + 1) }
        }
        delivered += test.release(at: 100)
        #expect(delivered == [1, 10, 20, 30, 35])
    }

    @Test(arguments: [0, -1, -.infinity, .nan] as [Double])
    func noTimeDeliversAtOnce(_ throttle: Double) {
        var test = self.open()
        #expect(test.admit(throttle: throttle, at: 1) == .deliver)
        // It restarts the window.
        #expect(test.admit(throttle: 10, at: 2) == .held(until: 11))
    }

    @Test func withoutThrottlePassesAndMovesNothing() {
        var test = self.open()
        #expect(test.admit(at: 1) == .deliver)
        #expect(test.admit(throttle: 10, at: 2) == .held(until: 10))
        #expect(test.admit(at: 3) == .deliver)
        #expect(test.release(at: 10) == [3])
    }

    @Test(arguments: [31_536_000, 1e9, 1e300, .infinity] as [Double])
    func aYearIsForEver(_ throttle: Double) {
        var test = self.open()
        #expect(test.admit(throttle: throttle, at: 1) == .held(until: 31_536_000))
    }

    @Test func keysAreApart() {
        var test = self.open()
        #expect(test.admit(throttle: 5, key: "1", at: 1) == .deliver)
        #expect(test.admit(throttle: 5, key: "\"1\"", at: 1) == .deliver)
        #expect(test.admit(throttle: 10, at: 2) == .held(until: 10))
        #expect(test.admit(throttle: 5, key: "true", at: 2) == .held(until: 6))
        #expect(test.filter.heldCount == 2)
        #expect(test.filter.deadline == at(6))
        #expect(test.release(at: 6) == [5])
        #expect(test.filter.deadline == at(10))
        #expect(test.release(at: 10) == [4])
    }

    @Test func whatIsDueComesInTheOrderOfItsTimes() {
        var test = TestFilter()
        let keys = (0..<20).map { ($0 * 7) % 20 }
        for key in keys { #expect(test.admit(throttle: 1, key: "\(key)", at: Double(key)) == .deliver) }
        for key in keys { #expect(test.admit(throttle: 50, key: "\(key)", at: 20) == .held(until: 50 + Double(key))) }
        // Publication 21 is the second one of the first key, and so on.
        let expected = (0..<20).compactMap { key in keys.firstIndex(of: key).map { $0 + 21 } }
        #expect(test.release(at: 59.5) == Array(expected.prefix(10)))
        #expect(test.release(at: 100) == Array(expected.dropFirst(10)))
    }

    @Test func theSnapshotOpensAWindow() {
        var test = TestFilter()
        test.filter.begin(TestFilter.conditions(throttle: 10, key: "\"a\""), now: at(5))
        #expect(test.filter.deadline == nil)
        #expect(test.admit(throttle: 10, key: "\"a\"", at: 6) == .held(until: 15))
        #expect(test.admit(throttle: 10, at: 6) == .deliver)
        // It is no order.
        #expect(test.admit(order: -1e300, at: 6) == .deliver)
    }
}

@Suite struct DeliveryFilterBoundTests {
    @Test func theOldestOrderIsForgotten() {
        var test = TestFilter(limit: 3)
        for key in 1...3 { #expect(test.admit(order: 5, orderKey: "\(key)") == .deliver) }
        for key in 1...3 { #expect(test.admit(order: 5, orderKey: "\(key)") == .drop(.order)) }
        #expect(test.admit(order: 5, orderKey: "4") == .deliver)
        for key in 2...4 { #expect(test.admit(order: 5, orderKey: "\(key)") == .drop(.order)) }
        // Forgotten, so that it begins anew, and now the second one goes.
        #expect(test.admit(order: 5, orderKey: "1") == .deliver)
        #expect(test.admit(order: 5, orderKey: "3") == .drop(.order))
        #expect(test.admit(order: 5, orderKey: "2") == .deliver)
    }

    @Test func theOldestWindowIsForgotten() {
        var test = TestFilter(limit: 2)
        for key in 1...3 { #expect(test.admit(throttle: 10, key: "\(key)") == .deliver) }
        #expect(test.admit(throttle: 10, key: "2", at: 1) == .held(until: 10))
        #expect(test.admit(throttle: 10, key: "3", at: 1) == .held(until: 10))
    }

    @Test func whatWaitsIsNotForgotten() {
        var test = TestFilter(limit: 2)
        #expect(test.admit(throttle: 10, key: "1") == .deliver)
        #expect(test.admit(throttle: 10, key: "1", at: 1) == .held(until: 10))
        for key in 2..<50 { #expect(test.admit(throttle: 10, key: "\(key)", at: 2) == .deliver) }
        #expect(test.admit(throttle: 10, key: "49", at: 3) == .held(until: 12))
        #expect(test.admit(throttle: 10, key: "50", at: 4) == .deliver)
        #expect(Set(test.release(at: 12)) == [2, 51])
    }

    @Test(arguments: [0, -1, .min])
    func thereIsAlwaysRoomForOneKey(_ limit: Int) {
        var test = TestFilter(limit: limit)
        #expect(test.admit(order: 5, throttle: 10) == .deliver)
        #expect(test.admit(order: 5) == .drop(.order))
        #expect(test.admit(throttle: 10, at: 1) == .held(until: 10))
    }

    /// Keys that only come once.
    @Test func memoryIsBounded() {
        var test = TestFilter(limit: 10)
        for number in 0..<1000 {
            _ = test.admit(order: 1, orderKey: "\(number)", throttle: 1000, key: "\(number)", at: Double(number))
        }
        #expect(test.entries.max() == 10)
    }

    /// Keys of which each one has something that waits.
    @Test func whatWaitsIsBounded() {
        var test = TestFilter(limit: 10)
        for number in 0..<1000 {
            for _ in 0..<2 { _ = test.admit(throttle: 10_000, key: "\(number)", at: Double(number)) }
        }
        #expect(test.filter.heldCount <= 11)
        #expect((test.entries.max() ?? 0) <= 11)
    }
}

extension TestFilter {
    /// How much there is in each of the filter's collections.
    fileprivate var entries: [Int] {
        Mirror(reflecting: self.filter).children.compactMap { child in
            let mirror = Mirror(reflecting: child.value)
            return mirror.displayStyle == .dictionary || mirror.displayStyle == .collection
                ? mirror.children.count : nil
        }
    }
}

@Suite struct DeliveryFilterModelTests {
    private struct Delivery {
        let time: Double
        let key: Int
        let number: Int
    }

    /// Publications under few keys at random times, and a timer that fires late at times.
    @Test(arguments: 0..<60 as Range<UInt64>)
    func theLastArrivesAndNeverTwoAtOnce(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var filter = DeliveryFilter<(key: Int, number: Int)>(limit: 10)
        let throttle = Double.random(in: 0.1...3, using: &generator)
        let lateness = Bool.random(using: &generator) ? 0 : Double.random(in: 0...2, using: &generator)
        var deliveries: [Delivery] = []
        var last: [Int: Int] = [:]
        var now = 0.0

        func fire(until end: Double) {
            while let deadline = filter.deadline {
                let time = max(now, (deadline - at(0)).seconds + lateness)
                guard time <= end else { break }
                now = time
                let due = filter.release(now: at(now))
                deliveries += due.map { Delivery(time: now, key: $0.key, number: $0.number) }
                if due.isEmpty {
                    Issue.record("seed \(seed): nothing was due at the deadline")
                    return
                }
            }
            now = max(now, end)
        }

        for number in 0..<400 {
            let isPause = Int.random(in: 0..<10, using: &generator) == 0
            fire(until: now + Double.random(in: 0...(isPause ? 8 : 0.5), using: &generator))
            let key = Int.random(in: 0..<4, using: &generator)
            last[key] = number
            let conditions = TestFilter.conditions(throttle: throttle, key: "\(key)")
            let verdict = filter.admit(conditions, (key, number), now: at(now)) { _ in .null }
            if verdict == .deliver { deliveries.append(Delivery(time: now, key: key, number: number)) }
        }
        fire(until: now + 100)
        #expect(filter.heldCount == 0, "seed \(seed)")
        for key in 0..<4 {
            let ofKey = deliveries.filter { $0.key == key }
            #expect(ofKey.last?.number == last[key], "seed \(seed), key \(key): the last one is missing")
            for (one, next) in zip(ofKey, ofKey.dropFirst()) {
                #expect(one.number < next.number, "seed \(seed), key \(key): out of order")
                #expect(next.time - one.time > throttle - 0.000_002, "seed \(seed), key \(key): too soon")
            }
        }
    }

    /// The same with orders: what is delivered only ever rises.
    @Test(arguments: 0..<30 as Range<UInt64>)
    func ordersOnlyRise(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var filter = DeliveryFilter<Int>(limit: 10)
        var greatest: [Int: Int] = [:]
        for _ in 0..<300 {
            let key = Int.random(in: 0..<4, using: &generator)
            let order = Int.random(in: -20..<200, using: &generator)
            let conditions = TestFilter.conditions(order: Double(order), orderKey: "\(key)")
            let isGreater = greatest[key].map { order > $0 } ?? true
            if isGreater { greatest[key] = order }
            #expect(
                filter.admit(conditions, 0, now: at(0)) { _ in .null } == (isGreater ? .deliver : .drop(.order)),
                "seed \(seed)"
            )
        }
    }
}
