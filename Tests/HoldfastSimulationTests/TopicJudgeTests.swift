import HoldfastCore
import HoldfastProtocol
import NIOCore
import Testing

@testable import HoldfastSimulation

/// The judge of the simulation has to see each way to break the promise: one that never says no proves nothing.
struct TopicJudgeTests {
    private let ledger = Ledger()
    private static let topic = "calls.t0"

    init() {
        for number in 1...9 { self.ledger.publish(Self.topic, number, Position(epoch: "e", offset: UInt64(number))) }
    }

    private func event(_ json: String) -> WireEvent { WireEvent(ByteBuffer(string: json)) }

    private func subscribed(at offset: Int, epoch: String = "e", recovered: Bool = false) -> WireEvent {
        self.event(
            """
            {"event":"subscribe","status":"ok","id":"c1","recovered":\(recovered),\
            "position":{"epoch":"\(epoch)","offset":\(offset)}}
            """)
    }

    /// Subscribed at 2, and 3 has come.
    private func judge() -> TopicJudge {
        var judge = TopicJudge(topic: Self.topic)
        judge.wants("c1")
        #expect(judge.subscribed(self.subscribed(at: 2), ledger: self.ledger) == nil)
        #expect(judge.message(3, offset: 3, ledger: self.ledger) == nil)
        return judge
    }

    @Test func inOrderAndOnce() {
        var judge = self.judge()
        for number in 4...9 { #expect(judge.message(number, offset: UInt64(number), ledger: self.ledger) == nil) }
        #expect(judge.settled(ledger: self.ledger) == nil)
    }

    @Test func twice() {
        var judge = self.judge()
        #expect(judge.message(3, offset: 3, ledger: self.ledger)?.promise == .once)
    }

    @Test func backwards() {
        var judge = self.judge()
        #expect(judge.message(4, offset: 4, ledger: self.ledger) == nil)
        #expect(judge.message(3, offset: 3, ledger: self.ledger)?.promise == .order)
    }

    @Test func aHole() {
        var judge = self.judge()
        #expect(judge.message(5, offset: 5, ledger: self.ledger)?.promise == .told)
    }

    @Test func aHoleThatWasTold() {
        var judge = self.judge()
        #expect(judge.gap(after: 3, next: 6) == nil)
        #expect(judge.message(6, offset: 6, ledger: self.ledger) == nil)
    }

    @Test func aHoleThatIsLargerThanTold() {
        var judge = self.judge()
        #expect(judge.gap(after: 3, next: 5) == nil)
        #expect(judge.message(6, offset: 6, ledger: self.ledger)?.promise == .told)
    }

    @Test func aGapThatIsNone() {
        var judge = self.judge()
        #expect(judge.gap(after: 2, next: 5)?.promise == .truth)
    }

    @Test func aNewEpochWithoutAWord() {
        var judge = self.judge()
        self.ledger.publish(Self.topic, 10, Position(epoch: "f", offset: 1))
        #expect(judge.subscribed(self.subscribed(at: 0, epoch: "f"), ledger: self.ledger) == nil)
        #expect(judge.message(10, offset: 1, ledger: self.ledger)?.promise == .told)
    }

    @Test func recoveredInANewEpoch() {
        var judge = self.judge()
        let event = self.subscribed(at: 0, epoch: "f", recovered: true)
        #expect(judge.subscribed(event, ledger: self.ledger)?.promise == .truth)
    }

    @Test func theEndIsMissing() {
        var judge = self.judge()
        #expect(judge.settled(ledger: self.ledger)?.promise == .told)
        #expect(judge.gap(after: 3, next: 10) == nil)
        #expect(judge.settled(ledger: self.ledger) == nil)
    }

    @Test func whatWasNeverPublished() {
        var judge = self.judge()
        #expect(judge.message(4, offset: 7, ledger: self.ledger)?.promise == .truth)
    }

    @Test func notSubscribed() {
        var judge = TopicJudge(topic: Self.topic)
        #expect(judge.message(1, offset: 1, ledger: self.ledger)?.promise == .once)
        judge.wants("c1")
        #expect(judge.settled(ledger: self.ledger)?.promise == .alive)
    }
}
