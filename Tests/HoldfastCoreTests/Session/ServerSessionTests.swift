import HoldfastProtocol
import Testing

@testable import HoldfastCore

@Suite struct ServerSessionTests {
    /// A native session that has sent three events.
    private func makeOpen() -> (ServerSession, [EncodedEvent]) {
        var session = ServerSession(dialect: .native)
        let events = (0..<3).map { _ in event() }
        for event in events { session.outbox.append(event, now: at(0), limits: .init()) }
        #expect(session.state == .attached)
        #expect(session.outbox.sent == 3)
        return (session, events)
    }

    @Test func aNativeSessionWaits() {
        var (session, events) = self.makeOpen()
        #expect(session.detach(now: at(5), ttl: .seconds(60)) == .wait(until: at(65)))
        #expect(session.state == .waiting(until: at(65)))
        #expect(isSame(session.resume(received: 1), events[1...]))
        #expect(session.state == .attached)
        #expect(session.resumes == 1)
    }

    @Test func aPlainSessionDoesNot() {
        var session = ServerSession(dialect: .plain)
        #expect(session.detach(now: at(5), ttl: .seconds(60)) == .end)
        #expect(session.state == .ended)
        #expect(session.resume(received: 0) == nil)
    }

    @Test(arguments: [0, -1])
    func noTimeToLive(_ seconds: Double) {
        var (session, _) = self.makeOpen()
        #expect(session.detach(now: at(5), ttl: .seconds(seconds)) == .end)
        #expect(session.state == .ended)
    }

    @Test func theShortestTimeToLive() {
        var (session, _) = self.makeOpen()
        #expect(
            session.detach(now: at(5), ttl: Span(microseconds: 1)) == .wait(until: Instant(microseconds: 5_000_001)))
    }

    /// A client may take the session over while its old transport still seems to work.
    @Test func resumeWhileAttached() {
        var (session, events) = self.makeOpen()
        #expect(isSame(session.resume(received: 0), events[...]))
        #expect(isSame(session.resume(received: 3), []))
        #expect(session.resumes == 2)
    }

    @Test(arguments: [4, UInt64.max])
    func resumeBeyondWhatWasSentEnds(_ received: UInt64) {
        var (session, _) = self.makeOpen()
        #expect(session.resume(received: received) == nil)
        #expect(session.state == .ended)
        #expect(session.resume(received: 0) == nil)
        #expect(session.resumes == 0)
    }

    @Test func resumeBeforeWhatIsKeptEnds() {
        var (session, _) = self.makeOpen()
        #expect(session.outbox.acknowledge(2) == true)
        #expect(session.resume(received: 1) == nil)
        #expect(session.state == .ended)
    }

    @Test func anEndedSessionStaysEnded() {
        var (session, _) = self.makeOpen()
        session.end()
        #expect(session.detach(now: at(0), ttl: .seconds(60)) == .end)
        #expect(session.resume(received: 0) == nil)
        #expect(session.state == .ended)
    }

    @Test func acknowledgesAfterEvery64() {
        var session = ServerSession(dialect: .native)
        for count in 1...63 { #expect(session.countReceived() == false, "\(count)") }
        #expect(session.countReceived() == true)
        // As long as the client was not told, it remains due.
        #expect(session.countReceived() == true)
        #expect(session.tellReceived() == 65)
        for _ in 0..<63 { #expect(session.countReceived() == false) }
        #expect(session.countReceived() == true)
        #expect(session.received == 129)
    }

    @Test func tellingOtherwisePutsTheAckOff() {
        var session = ServerSession(dialect: .native)
        for _ in 0..<60 { _ = session.countReceived() }
        #expect(session.tellReceived() == 60)
        for _ in 0..<63 { #expect(session.countReceived() == false) }
        #expect(session.countReceived() == true)
    }

    @Test func plainSessionsAreNotAcknowledged() {
        var session = ServerSession(dialect: .plain)
        for _ in 0..<200 { #expect(session.countReceived() == false) }
        #expect(session.received == 200)
    }

    @Test func theCountSurvivesAResume() {
        var (session, _) = self.makeOpen()
        for _ in 0..<10 { _ = session.countReceived() }
        _ = session.detach(now: at(0), ttl: .seconds(60))
        #expect(session.resume(received: 3) != nil)
        #expect(session.received == 10)
        #expect(session.outbox.sent == 3)
    }
}
