import NIOCore

/// When a link connects, asks whether the server lives, and gives up, sans-IO: time and chance are arguments.
///
/// Results of a connection carry the number of its attempt; those of an earlier one change nothing.
struct LinkMachine {
    struct Ping: Equatable {
        let sent: NIODeadline
        /// Reading was paused while it was out: its answer says nothing about the time it took.
        var isSpoiled: Bool
    }

    enum State: Equatable {
        case idle
        case connecting
        case up(since: NIODeadline, nextPing: NIODeadline?, ping: Ping?)
        case down(until: NIODeadline)
        case stopped
    }

    let liveness: RESPLink.Liveness
    let backoff: RESPLink.Backoff
    private(set) var state = State.idle
    /// Of the connection that is up or under way.
    private(set) var attempt: UInt64 = 0
    private(set) var isPaused = false
    /// Since the last connection that lived for a while.
    private var failures = 0

    init(liveness: RESPLink.Liveness, backoff: RESPLink.Backoff) {
        self.liveness = liveness
        self.backoff = backoff
    }

    enum Action: Equatable {
        case nothing
        case connect(attempt: UInt64)
        case announceUp
        case announceDown(reason: String)
        case sendPing(attempt: UInt64)
        /// The connection is to be closed, and the loss announced.
        case drop(reason: String)
        case announceLatency(seconds: Double)
    }

    mutating func start() -> Action {
        guard case .idle = self.state else { return .nothing }
        return self.connect()
    }

    mutating func connected(_ attempt: UInt64, now: NIODeadline) -> Action {
        guard case .connecting = self.state, attempt == self.attempt else { return .nothing }
        self.state = .up(since: now, nextPing: self.interval.map { now + $0 }, ping: nil)
        return .announceUp
    }

    /// The attempt failed, or its connection ended.
    /// - Parameter random: in 0..<1.
    mutating func lost(_ attempt: UInt64, reason: String, now: NIODeadline, random: Double) -> Action {
        guard attempt == self.attempt else { return .nothing }
        switch self.state {
        case .idle, .down, .stopped: return .nothing
        case .connecting: break
        case .up(let since, _, _):
            // One that dies young, as of a server that takes everybody and throws them out, must not be a reason to hurry.
            if now - since >= .bounded(seconds: self.backoff.cap) { self.failures = 0 }
        }
        self.state = .down(until: now + self.backoff.delay(failures: self.failures, random: random))
        self.failures += 1
        return .announceDown(reason: reason)
    }

    /// The server has answered a PING, if only with an error.
    mutating func pong(_ attempt: UInt64, now: NIODeadline) -> Action {
        guard attempt == self.attempt, case .up(let since, let nextPing, let ping?) = self.state else {
            return .nothing
        }
        self.state = .up(since: since, nextPing: nextPing, ping: nil)
        return ping.isSpoiled ? .nothing : .announceLatency(seconds: Double((now - ping.sent).nanoseconds) / 1e9)
    }

    mutating func pause() {
        self.isPaused = true
        if case .up(let since, let nextPing, var ping?) = self.state {
            ping.isSpoiled = true
            self.state = .up(since: since, nextPing: nextPing, ping: ping)
        }
    }

    mutating func resume() {
        self.isPaused = false
    }

    mutating func stop() {
        self.state = .stopped
    }

    /// When ``timerFired(now:lastActivity:random:)`` has something to do, if nothing else happens until then.
    /// - Parameter lastActivity: when bytes came last, or could come again after a pause.
    func deadline(lastActivity: NIODeadline) -> NIODeadline? {
        switch self.state {
        case .idle, .connecting, .stopped: return nil
        case .down(let until): return until
        case .up(_, let nextPing, nil): return self.isPaused ? nil : nextPing
        case .up(_, _, let ping?):
            guard !self.isPaused, let timeout = self.timeout else { return nil }
            // Answers wait behind messages: a server that still sends those is not dead.
            return max(ping.sent, lastActivity) + timeout
        }
    }

    mutating func timerFired(now: NIODeadline, lastActivity: NIODeadline, random: Double) -> Action {
        guard let deadline = self.deadline(lastActivity: lastActivity), deadline <= now else { return .nothing }
        switch self.state {
        case .idle, .connecting, .stopped: return .nothing
        case .down: return self.connect()
        case .up(let since, _, nil):
            self.state = .up(
                since: since, nextPing: self.interval.map { now + $0 }, ping: Ping(sent: now, isSpoiled: false))
            return .sendPing(attempt: self.attempt)
        case .up(_, _, _?):
            let reason = "the server did not answer a PING within \(self.liveness.pingTimeout ?? 0) s"
            return self.lost(self.attempt, reason: reason, now: now, random: random) == .nothing
                ? .nothing : .drop(reason: reason)
        }
    }

    private mutating func connect() -> Action {
        self.attempt += 1
        self.state = .connecting
        return .connect(attempt: self.attempt)
    }

    private var interval: TimeAmount? { Self.amount(self.liveness.pingInterval) }
    private var timeout: TimeAmount? { Self.amount(self.liveness.pingTimeout) }

    /// Zero is no time at all in which something could happen: it means none, as `nil` does.
    private static func amount(_ seconds: Double?) -> TimeAmount? {
        guard let seconds, seconds > 0 else { return nil }
        return .bounded(seconds: seconds)
    }
}
