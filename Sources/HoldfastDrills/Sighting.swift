import Synchronization

/// What a client that is drilled says of itself: the answers of the line protocol (docs/drills.md).
public enum Sighting: Sendable, Equatable {
    /// Subscribed: what is published from now on has to come.
    case ready
    case message(UInt64)
    case gap(after: UInt64?, next: UInt64?)
    /// It does not trust its line any more, or the line has ended.
    case lost
    /// A line carries the session, or does again.
    case open(transport: String?)
    /// It tries to open a line.
    case attempt(transport: String?)
    /// A request that waited for events ended before its time.
    case cut
    /// The page is hidden now.
    case hidden
    /// A problem that the app was told of.
    case problem(String)
    /// It can go on no more: what it said cannot be understood, or it has ended by itself.
    case failed(String)
}

/// All that one client has said, with the time in seconds since the drill began. May be written and read from anywhere.
public final class SightingLog: Sendable {
    /// Of one client. More is a failure, so that a client that talks in a loop cannot take all memory.
    public static let limit = 200_000

    struct Entry {
        let at: Double
        let what: Sighting
    }

    private let clock: DrillClock
    private let entries = Mutex<[Entry]>([])
    /// Is told of each at once.
    private let listener: (@Sendable (Sighting) -> Void)?

    init(clock: DrillClock, listener: (@Sendable (Sighting) -> Void)? = nil) {
        self.clock = clock
        self.listener = listener
    }

    public func append(_ what: Sighting) {
        self.listener?(what)
        let at = self.clock.now
        self.entries.withLock { entries in
            if entries.count < Self.limit {
                entries.append(Entry(at: at, what: what))
            } else if entries.count == Self.limit {
                entries.append(Entry(at: at, what: .failed("it said more than \(Self.limit) things")))
            }
        }
    }

    private func read<Result: Sendable>(_ body: (ArraySlice<Entry>) -> Result, since: Double) -> Result {
        self.entries.withLock { entries in
            // Most questions are about the end.
            let start = entries.lastIndex { $0.at < since }.map { $0 + 1 } ?? 0
            return body(entries[start...])
        }
    }

    /// When something of the kind was seen for the first time at or after `since`.
    func first(since: Double = 0, where isWanted: (Sighting) -> Bool) -> Double? {
        self.read({ $0.first { isWanted($0.what) }?.at }, since: since)
    }

    func times(since: Double = 0, until: Double = .infinity, where isWanted: (Sighting) -> Bool) -> [Double] {
        self.read({ $0.filter { $0.at <= until && isWanted($0.what) }.map(\.at) }, since: since)
    }

    /// The last line's transport, as far as the client says one.
    var transport: String? {
        self.read(
            { entries in
                for case .open(let transport?) in entries.reversed().map(\.what) { return transport }
                return nil
            }, since: 0)
    }

    /// Whether the number has come.
    func has(_ number: UInt64) -> Bool {
        self.read({ $0.reversed().contains { $0.what == .message(number) } }, since: 0)
    }

    var count: Int { self.entries.withLock { $0.count } }

    var deliveries: [Delivery] {
        self.read(
            { entries in
                entries.compactMap { entry in
                    switch entry.what {
                    case .message(let number): .message(number)
                    case .gap(let after, let next): .gap(after: after, next: next)
                    default: nil
                    }
                }
            }, since: 0)
    }

    /// Why nothing more can be expected of the client.
    var failure: String? {
        self.read(
            { entries in
                for case .failed(let text) in entries.map(\.what) { return text }
                return nil
            }, since: 0)
    }
}

extension Sighting {
    var isMessage: Bool { if case .message = self { true } else { false } }
    var isGap: Bool { if case .gap = self { true } else { false } }
    var isOpen: Bool { if case .open = self { true } else { false } }
    var isAttempt: Bool { if case .attempt = self { true } else { false } }
    var isWebSocketAttempt: Bool { self == .attempt(transport: "websocket") }
}

/// Seconds since the drill began, on a clock that nobody sets.
public struct DrillClock: Sendable {
    private let start = ContinuousClock.now

    public init() {}

    public var now: Double {
        let (seconds, attoseconds) = self.start.duration(to: .now).components
        return Double(seconds) + Double(attoseconds) / 1e18
    }
}
