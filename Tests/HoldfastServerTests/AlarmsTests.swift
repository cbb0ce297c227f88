import HoldfastCore
import HoldfastProtocol
import Testing

@testable import HoldfastServer

@Suite struct AlarmsTests {
    /// Short words for what the tests do, in seconds.
    private final class Clockwork {
        var alarms = Alarms()
        private var subscriptions: [String: Subscription] = [:]

        private func at(_ seconds: Double) -> Instant { Instant(microseconds: Int64(seconds * 1_000_000)) }

        /// - Returns: whether it is the earliest now.
        @discardableResult
        func set(_ name: String, _ seconds: Double?) -> Bool {
            let subscription =
                self.subscriptions[name]
                ?? Subscription(topic: Topic(name: name), session: nil, service: .placeholder, extras: [])
            self.subscriptions[name] = subscription
            return self.alarms.set(subscription, at: seconds.map(self.at))
        }

        func due(_ seconds: Double) -> [String] { self.alarms.due(self.at(seconds)).map(\.name) }
    }

    private let clockwork = Clockwork()

    @Test func theyFireInOrderAndOnce() {
        self.clockwork.set("b", 2)
        self.clockwork.set("a", 1)
        #expect(self.clockwork.due(0.9) == [])
        #expect(self.clockwork.due(2) == ["a", "b"])
        #expect(self.clockwork.due(3) == [])
        #expect(self.clockwork.alarms.next == nil)
    }

    @Test func onlyTheEarliestHasToBePlannedAnew() {
        #expect(self.clockwork.set("a", 1))
        #expect(!self.clockwork.set("b", 2))
        #expect(!self.clockwork.set("b", 2))
        #expect(self.clockwork.set("b", 0.5))
    }

    @Test func oneThatMovesFiresAtItsNewTimeOnly() {
        self.clockwork.set("a", 1)
        self.clockwork.set("a", 3)
        #expect(self.clockwork.due(2) == [])
        #expect(self.clockwork.due(3) == ["a"])
        self.clockwork.set("a", 4)
        self.clockwork.set("a", nil)
        #expect(self.clockwork.due(9) == [])
    }

    @Test func thoseThatWereCancelledDoNotPileUp() {
        for second in 1...10_000 { self.clockwork.set("a", Double(second)) }
        #expect(self.clockwork.alarms.count < 200)
        #expect(self.clockwork.due(10_000) == ["a"])
        #expect(self.clockwork.alarms.count == 0)
    }
}
