import NIOCore
import Testing

@testable import RESP

/// In virtual time; it starts at an hour, so that a forgotten zero shows.
struct LinkMachineTests {
    private func at(_ seconds: Double) -> NIODeadline {
        .uptimeNanoseconds(3_600_000_000_000) + .nanoseconds(Int64(seconds * 1e9))
    }

    private func make(ping: Double? = 10, timeout: Double? = 5) -> LinkMachine {
        LinkMachine(
            liveness: .init(pingInterval: ping, pingTimeout: timeout), backoff: .init(base: 0.1, cap: 5))
    }

    /// Connected at 0.
    private func makeUp(ping: Double? = 10, timeout: Double? = 5) -> LinkMachine {
        var machine = self.make(ping: ping, timeout: timeout)
        #expect(machine.start() == .connect(attempt: 1))
        #expect(machine.connected(1, now: self.at(0)) == .announceUp)
        return machine
    }

    private func fire(_ machine: inout LinkMachine, _ seconds: Double, active: Double = 0) -> LinkMachine.Action {
        machine.timerFired(now: self.at(seconds), lastActivity: self.at(active), random: 0.5)
    }

    @Test func startsOnce() {
        var machine = self.make()
        #expect(machine.deadline(lastActivity: self.at(0)) == nil)
        #expect(machine.start() == .connect(attempt: 1))
        #expect(machine.start() == .nothing)
        #expect(machine.deadline(lastActivity: self.at(0)) == nil)
    }

    /// base·2ⁿ up to the cap, times the random number.
    @Test func backoff() {
        var machine = self.make()
        #expect(machine.start() == .connect(attempt: 1))
        var now = 0.0
        for (failures, longest) in [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5].enumerated() {
            let attempt = UInt64(failures + 1)
            let action = machine.lost(attempt, reason: "no", now: self.at(now), random: 0.5)
            #expect(action == .announceDown(reason: "no"))
            #expect(machine.state == .down(until: self.at(now + longest / 2)))
            #expect(self.fire(&machine, now + longest / 2 - 0.001) == .nothing)
            now += longest / 2
            #expect(self.fire(&machine, now) == .connect(attempt: attempt + 1))
        }
    }

    @Test func jitterIsFull() {
        let backoff = RESPLink.Backoff(base: 0.1, cap: 5)
        #expect(backoff.delay(failures: 3, random: 0) == .nanoseconds(0))
        #expect(backoff.delay(failures: 3, random: 0.25) == .milliseconds(200))
        #expect(backoff.delay(failures: 1_000_000, random: 0.5) == .milliseconds(2_500))
        #expect(RESPLink.Backoff(base: -1, cap: 5).delay(failures: 9, random: 0.5) == .nanoseconds(0))
        #expect(RESPLink.Backoff(base: .infinity, cap: .infinity).delay(failures: 9, random: 0.5) == .hours(8_760))
        #expect(RESPLink.Backoff(base: .nan, cap: .nan).delay(failures: 9, random: 0.5) >= .nanoseconds(0))
    }

    /// A connection that dies young does not make the next try come sooner; one that lived as long as the cap does.
    @Test func aShortLifeCountsAsFailure() {
        var machine = self.make()
        #expect(machine.start() == .connect(attempt: 1))
        #expect(machine.lost(1, reason: "a", now: self.at(0), random: 0.5) == .announceDown(reason: "a"))
        #expect(self.fire(&machine, 0.05) == .connect(attempt: 2))
        #expect(machine.connected(2, now: self.at(1)) == .announceUp)
        #expect(machine.lost(2, reason: "b", now: self.at(5.9), random: 0.5) == .announceDown(reason: "b"))
        #expect(machine.state == .down(until: self.at(6)))
        #expect(self.fire(&machine, 6) == .connect(attempt: 3))
        #expect(machine.connected(3, now: self.at(7)) == .announceUp)
        #expect(machine.lost(3, reason: "c", now: self.at(12), random: 0.5) == .announceDown(reason: "c"))
        #expect(machine.state == .down(until: self.at(12.05)))
    }

    @Test func pings() {
        var machine = self.makeUp()
        #expect(machine.deadline(lastActivity: self.at(0)) == self.at(10))
        #expect(self.fire(&machine, 9.9) == .nothing)
        #expect(self.fire(&machine, 10) == .sendPing(attempt: 1))
        #expect(machine.deadline(lastActivity: self.at(0)) == self.at(15))
        #expect(machine.pong(1, now: self.at(10.25)) == .announceLatency(seconds: 0.25))
        // From PING to PING, whatever the latency.
        #expect(machine.deadline(lastActivity: self.at(10.25)) == self.at(20))
        #expect(machine.pong(1, now: self.at(11)) == .nothing)
    }

    @Test func silence() {
        var machine = self.makeUp()
        #expect(self.fire(&machine, 10) == .sendPing(attempt: 1))
        #expect(self.fire(&machine, 14.9) == .nothing)
        let reason = "the server did not answer a PING within 5.0 s"
        #expect(self.fire(&machine, 15) == .drop(reason: reason))
        #expect(machine.state == .down(until: self.at(15.05)))
        // The end of the connection that was dropped.
        #expect(machine.lost(1, reason: "closed", now: self.at(15), random: 0.5) == .nothing)
        #expect(self.fire(&machine, 15.05) == .connect(attempt: 2))
    }

    /// Messages before the answer are a sign of life.
    @Test func bytesAreLife() {
        var machine = self.makeUp()
        #expect(self.fire(&machine, 10) == .sendPing(attempt: 1))
        #expect(machine.deadline(lastActivity: self.at(13)) == self.at(18))
        #expect(self.fire(&machine, 15, active: 13) == .nothing)
        #expect(self.fire(&machine, 18, active: 17) == .nothing)
        #expect(machine.pong(1, now: self.at(19)) == .announceLatency(seconds: 9))
        #expect(machine.deadline(lastActivity: self.at(19)) == self.at(20))
        #expect(self.fire(&machine, 22, active: 19) == .sendPing(attempt: 1))
    }

    @Test func withoutPings() {
        let machine = self.makeUp(ping: nil)
        #expect(machine.deadline(lastActivity: self.at(0)) == nil)
        #expect(self.makeUp(ping: 0).deadline(lastActivity: self.at(0)) == nil)
        #expect(self.makeUp(ping: .nan).deadline(lastActivity: self.at(0)) == nil)
        var patient = self.makeUp(timeout: nil)
        #expect(self.fire(&patient, 10) == .sendPing(attempt: 1))
        #expect(patient.deadline(lastActivity: self.at(0)) == nil)
        #expect(patient.pong(1, now: self.at(1_000)) == .announceLatency(seconds: 990))
        #expect(self.fire(&patient, 1_000) == .sendPing(attempt: 1))
    }

    /// We do not read, so silence says nothing.
    @Test func paused() {
        var machine = self.makeUp()
        #expect(self.fire(&machine, 10) == .sendPing(attempt: 1))
        machine.pause()
        #expect(machine.isPaused)
        #expect(machine.deadline(lastActivity: self.at(0)) == nil)
        #expect(self.fire(&machine, 100) == .nothing)
        machine.resume()
        // Reading began again at 100.
        #expect(machine.deadline(lastActivity: self.at(100)) == self.at(105))
        #expect(self.fire(&machine, 101, active: 100) == .nothing)
        // The time was ours, not the server's.
        #expect(machine.pong(1, now: self.at(102)) == .nothing)
        #expect(self.fire(&machine, 102, active: 102) == .sendPing(attempt: 1))
        #expect(machine.pong(1, now: self.at(102.5)) == .announceLatency(seconds: 0.5))
    }

    @Test func pausedBeforeAPing() {
        var machine = self.makeUp()
        machine.pause()
        #expect(machine.deadline(lastActivity: self.at(0)) == nil)
        #expect(self.fire(&machine, 100) == .nothing)
        machine.resume()
        #expect(self.fire(&machine, 100) == .sendPing(attempt: 1))
    }

    /// What belongs to an earlier connection changes nothing.
    @Test func staleResults() {
        var machine = self.makeUp()
        #expect(machine.lost(1, reason: "a", now: self.at(0), random: 0.5) == .announceDown(reason: "a"))
        #expect(machine.connected(1, now: self.at(0)) == .nothing)
        #expect(self.fire(&machine, 1) == .connect(attempt: 2))
        #expect(machine.connected(1, now: self.at(1)) == .nothing)
        #expect(machine.lost(1, reason: "b", now: self.at(1), random: 0.5) == .nothing)
        #expect(machine.connected(2, now: self.at(1)) == .announceUp)
        #expect(self.fire(&machine, 11) == .sendPing(attempt: 2))
        #expect(machine.pong(1, now: self.at(12)) == .nothing)
        #expect(machine.lost(1, reason: "c", now: self.at(12), random: 0.5) == .nothing)
        #expect(machine.pong(2, now: self.at(12)) == .announceLatency(seconds: 1))
    }

    @Test func stopped() {
        var idle = self.make()
        idle.stop()
        #expect(idle.start() == .nothing)
        var connecting = self.make()
        #expect(connecting.start() == .connect(attempt: 1))
        connecting.stop()
        #expect(connecting.connected(1, now: self.at(0)) == .nothing)
        #expect(connecting.lost(1, reason: "a", now: self.at(0), random: 0.5) == .nothing)
        var up = self.makeUp()
        #expect(self.fire(&up, 10) == .sendPing(attempt: 1))
        up.stop()
        #expect(up.pong(1, now: self.at(11)) == .nothing)
        #expect(up.deadline(lastActivity: self.at(0)) == nil)
        #expect(self.fire(&up, 1_000) == .nothing)
        var down = self.makeUp()
        #expect(down.lost(1, reason: "a", now: self.at(0), random: 0.5) == .announceDown(reason: "a"))
        down.stop()
        #expect(self.fire(&down, 1_000) == .nothing)
    }
}
