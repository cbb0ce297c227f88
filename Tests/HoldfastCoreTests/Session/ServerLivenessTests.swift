import Testing

@testable import HoldfastCore

@Suite struct ServerLivenessTests {
    /// Asks after 15 s, waits for 10 s.
    private func liveness() -> ServerLiveness {
        let liveness = ServerLiveness(interval: .seconds(15), timeout: .seconds(10), now: at(0))
        #expect(liveness.deadline == at(15))
        return liveness
    }

    /// With a Ping out since 15 s.
    private func asked() -> ServerLiveness {
        var liveness = self.liveness()
        #expect(liveness.timerFired(now: at(15), random: { 7 }) == .sendPing(7))
        #expect(liveness.deadline == at(25))
        return liveness
    }

    @Test func waitsUntilTheDeadline() {
        var liveness = self.liveness()
        #expect(liveness.timerFired(now: at(14.999999), random: { 7 }) == .wait)
        #expect(liveness.timerFired(now: at(15), random: { 7 }) == .sendPing(7))
    }

    @Test func hearingPutsItOff() {
        var liveness = self.liveness()
        liveness.heard(now: at(14))
        #expect(liveness.deadline == at(29))
        #expect(liveness.timerFired(now: at(15), random: { 7 }) == .wait)
        #expect(liveness.timerFired(now: at(29), random: { 7 }) == .sendPing(7))
    }

    @Test func dropsWithoutAnAnswer() {
        var liveness = self.asked()
        #expect(liveness.timerFired(now: at(24.999999), random: { 8 }) == .wait)
        #expect(liveness.timerFired(now: at(25), random: { 8 }) == .drop)
    }

    @Test func anAnswerStartsOver() {
        var liveness = self.asked()
        liveness.heard(now: at(16.5))
        #expect(liveness.receivedPong(7, now: at(16.5)) == .seconds(1.5))
        #expect(liveness.deadline == at(31.5))
        #expect(liveness.timerFired(now: at(25), random: { 8 }) == .wait)
        #expect(liveness.timerFired(now: at(31.5), random: { 8 }) == .sendPing(8))
    }

    @Test(arguments: [nil, 0, 6, 8, .max] as [UInt32?])
    func aWrongPongIsNoAnswer(_ payload: UInt32?) {
        var liveness = self.asked()
        liveness.heard(now: at(16))
        #expect(liveness.receivedPong(payload, now: at(16)) == nil)
        #expect(liveness.timerFired(now: at(25), random: { 8 }) == .drop)
    }

    @Test func anUnaskedPongIsNoAnswer() {
        var liveness = self.liveness()
        #expect(liveness.receivedPong(7, now: at(1)) == nil)
        var asked = self.asked()
        #expect(asked.receivedPong(7, now: at(16)) != nil)
        #expect(asked.receivedPong(7, now: at(17)) == nil)
    }

    @Test func yesterdaysPongIsNoAnswerToToday() {
        var liveness = self.asked()
        liveness.heard(now: at(16))
        #expect(liveness.receivedPong(7, now: at(16)) != nil)
        #expect(liveness.timerFired(now: at(31), random: { 8 }) == .sendPing(8))
        #expect(liveness.receivedPong(7, now: at(32)) == nil)
        #expect(liveness.timerFired(now: at(41), random: { 9 }) == .drop)
    }

    /// Up to a second late the answer's time counts from when the Ping was due, beyond from when it was sent.
    @Test(arguments: [(15.0, 25.0), (15.5, 25.0), (16.0, 25.0), (16.000001, 26.000001), (100, 110)])
    func aLoopThatWasHeldUp(_ now: Double, _ deadline: Double) {
        var liveness = self.liveness()
        #expect(liveness.timerFired(now: at(now), random: { 7 }) == .sendPing(7))
        #expect(liveness.deadline == at(deadline))
    }

    @Test func zeroNeverAsks() {
        var liveness = ServerLiveness(interval: .zero, timeout: .seconds(1), now: at(0))
        #expect(liveness.deadline == nil)
        #expect(liveness.timerFired(now: at(1_000_000), random: { 7 }) == .wait)
    }
}
