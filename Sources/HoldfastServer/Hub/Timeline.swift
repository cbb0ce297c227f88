import DequeModule
import HoldfastCore
import HoldfastProtocol

/// What happened to one session, in order, for people who ask why. Bounded: the oldest entries go first.
struct Timeline: Sendable {
    enum Happening: Sendable {
        case opened(transport: String, remote: String)
        case resumed(repeated: Int)
        case replaced
        case closed(reason: String)
        case expired
        case ended(code: CloseCode?, reason: String)
        case goaway
    }

    struct Entry: Sendable {
        /// Microseconds since 1970.
        let at: Int64
        let happening: Happening
    }

    private(set) var entries = Deque<Entry>()
    /// Entries that had to go.
    private(set) var forgotten = 0

    mutating func record(_ happening: Happening, at: Int64, limit: Int) {
        while self.entries.count >= limit {
            self.entries.removeFirst()
            self.forgotten += 1
        }
        self.entries.append(Entry(at: at, happening: happening))
    }
}

extension Timeline.Happening: CustomStringConvertible {
    var description: String {
        switch self {
        case .opened(let transport, let remote): "\(transport) opened from \(remote)"
        case .resumed(let repeated): "resumed, \(repeated) events repeated"
        case .replaced: "transport replaced by a newer one"
        case .closed(let reason): "transport closed: \(reason)"
        case .expired: "expired: the client did not come back in time"
        case .ended(let code, let reason): "ended\(code.map { " with \($0)" } ?? ""): \(reason)"
        case .goaway: "told to go elsewhere"
        }
    }
}

/// Pings and round-trip times of a session, over all its transports.
struct RoundTrips: Sendable {
    private(set) var sent = 0
    private(set) var answered = 0
    private(set) var lost = 0
    private(set) var last: Span?
    private(set) var least: Span?
    private(set) var most: Span?

    mutating func pingSent() { self.sent += 1 }

    mutating func pingLost() { self.lost += 1 }

    mutating func answered(after time: Span) {
        self.answered += 1
        self.last = time
        self.least = min(self.least ?? time, time)
        self.most = max(self.most ?? time, time)
    }
}
