import HoldfastProtocol
import Testing

@testable import HoldfastCore

@Suite struct OutboxTests {
    private static let wide = Outbox.Limits(bytes: 1000, events: 100, age: .seconds(300))

    private func outbox(_ events: [EncodedEvent], _ limits: Outbox.Limits = OutboxTests.wide, every seconds: Double = 0)
        -> Outbox
    {
        var outbox = Outbox()
        for (index, event) in events.enumerated() {
            outbox.append(event, now: at(Double(index) * seconds), limits: limits)
        }
        return outbox
    }

    @Test func empty() {
        var outbox = Outbox()
        #expect(isSame(outbox.resume(after: 0), []))
        #expect(outbox.resume(after: 1) == nil)
        #expect(outbox.acknowledge(0) == true)
        #expect(outbox.acknowledge(1) == false)
    }

    /// From every count that can be, the rest and nothing else.
    @Test func resumeFromEveryCount() {
        let events = (0..<5).map { _ in event() }
        for received in 0...5 {
            var outbox = self.outbox(events)
            #expect(isSame(outbox.resume(after: UInt64(received)), events[received...]))
            #expect(outbox.keptEvents == 5 - received)
            #expect(outbox.keptBytes == 10 * (5 - received))
            #expect(outbox.acknowledged == UInt64(received))
            #expect(outbox.sent == 5)
        }
    }

    @Test func resumeBeyondWhatWasSent() {
        var outbox = self.outbox([event(), event()])
        #expect(outbox.resume(after: 3) == nil)
        #expect(outbox.resume(after: .max) == nil)
        #expect(outbox.keptEvents == 2)
    }

    @Test func resumeBeforeWhatIsKept() {
        let events = (0..<4).map { _ in event() }
        var outbox = self.outbox(events)
        #expect(outbox.acknowledge(2) == true)
        #expect(outbox.resume(after: 1) == nil)
        #expect(isSame(outbox.resume(after: 2), events[2...]))
    }

    @Test func acknowledgements() {
        var outbox = self.outbox((0..<4).map { _ in event() })
        #expect(outbox.acknowledge(3) == true)
        #expect(outbox.keptEvents == 1)
        // Old news changes nothing.
        #expect(outbox.acknowledge(1) == true)
        #expect(outbox.acknowledge(3) == true)
        #expect(outbox.acknowledged == 3)
        #expect(outbox.keptEvents == 1)
        // What was never sent changes nothing either.
        #expect(outbox.acknowledge(5) == false)
        #expect(outbox.acknowledge(.max) == false)
        #expect(outbox.acknowledged == 3)
        #expect(outbox.acknowledge(4) == true)
        #expect(outbox.keptEvents == 0)
        #expect(outbox.keptBytes == 0)
        #expect(outbox.forgotten == 0)
    }

    @Test(arguments: [(39, 3), (40, 4), (41, 4), (49, 4), (50, 5), (51, 5)])
    func limitOfBytes(_ limit: Int, _ kept: Int) {
        let events = (0..<5).map { _ in event(bytes: 10) }
        var outbox = self.outbox(events, Outbox.Limits(bytes: limit, events: 100))
        #expect(outbox.keptEvents == kept)
        #expect(outbox.keptBytes == kept * 10)
        #expect(outbox.forgotten == UInt64(5 - kept))
        if kept < 5 { #expect(outbox.resume(after: UInt64(5 - kept - 1)) == nil) }
        #expect(isSame(outbox.resume(after: UInt64(5 - kept)), events[(5 - kept)...]))
    }

    @Test(arguments: [(1, 1), (4, 4), (5, 5), (6, 5)])
    func limitOfEvents(_ limit: Int, _ kept: Int) {
        let outbox = self.outbox((0..<5).map { _ in event() }, Outbox.Limits(bytes: 1000, events: limit))
        #expect(outbox.keptEvents == kept)
        #expect(outbox.forgotten == UInt64(5 - kept))
    }

    @Test func theNewestIsAlwaysKept() {
        let big = event(bytes: 100)
        var outbox = self.outbox([event(), event(), big], Outbox.Limits(bytes: 50, events: 10))
        #expect(outbox.keptEvents == 1)
        #expect(outbox.keptBytes == 100)
        #expect(isSame(outbox.resume(after: 2), [big]))
    }

    /// One event per second, 10 s to live.
    @Test(arguments: [(10.0, 5), (10.000001, 4), (11.0, 4), (13.9, 1), (14.0, 1), (14.000001, 0), (1000, 0)])
    func limitOfAge(_ now: Double, _ kept: Int) {
        let limits = Outbox.Limits(bytes: 1000, events: 100, age: .seconds(10))
        var outbox = self.outbox((0..<5).map { _ in event() }, limits, every: 1)
        outbox.expire(now: at(now), limits: limits)
        #expect(outbox.keptEvents == kept)
        #expect(outbox.forgotten == UInt64(5 - kept))
        #expect(outbox.sent == 5)
    }

    /// Forgotten events may still be acknowledged: the client had them.
    @Test func acknowledgingWhatWasForgotten() {
        let events = (0..<5).map { _ in event() }
        var outbox = self.outbox(events, Outbox.Limits(bytes: 1000, events: 2))
        #expect(outbox.acknowledge(2) == true)
        #expect(outbox.keptEvents == 2)
        #expect(outbox.acknowledge(4) == true)
        #expect(isSame(outbox.resume(after: 4), events[4...]))
        outbox.append(events[0], now: at(0), limits: Self.wide)
        #expect(outbox.sent == 6)
        #expect(outbox.resume(after: 3) == nil)
    }
}
