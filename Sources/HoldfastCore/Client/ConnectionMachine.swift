import HoldfastProtocol
import NIOCore

/// The client's side of a session (client.md). Does no IO and knows no clock and no randomness: facts and the time go in
/// through ``handle(_:now:)``, actions come out, to be carried out in that order.
///
/// At most two lines exist: `main`, which carries the session or is about to, and beside a live main a `rival`, which is
/// to replace it because main is suspect or the server says goaway. A rival asks `probe` first. Whoever speaks first wins:
/// main speaks, the rival is dropped and the server never noticed; the rival speaks, main is dropped *before* the session
/// is moved by hello, so that nothing is taken from main that the server will repeat on the rival.
///
/// A round is one try for a line, on one transport and then, if that one fails or does not answer, on the other. What it
/// starts with, the ladder says. A WebSocket that is tried beside a working fallback is a rival too, and probes.
///
/// The machine of `clients/js/holdfast.js` is the same in another language; the scenarios in `Tests/Scenarios` run against
/// both.
public struct ConnectionMachine {
    public struct Options: Sendable {
        /// What `hello` says of the client.
        public var clientName = "holdfast-swift"
        public var clientVersion = "0.1.0"
        /// Whether `opened` brings `auth`, so that 4001 can be answered by asking anew.
        public var hasCredentials = false
        /// For a line to open, and again for each answer that it then owes.
        public var connectTimeout = Span.seconds(10)
        /// Most bytes of commands that are kept.
        public var queueBytes = 1 << 20
        /// Lines in a row that were of no use, after which to stop; `nil` never stops.
        public var maxAttempts: Int?
        /// That may be used. The first one that is no WebSocket is the fallback, tried where WebSockets do not get through.
        public var transports: [ClientTransport] = [.websocket, .stream, .poll]

        public init() {}
    }

    /// Figures since the machine was made.
    public struct Counts: Sendable, Equatable {
        public internal(set) var attempts = 0
        public internal(set) var races = 0
        public internal(set) var resumed = 0
        public internal(set) var sessions = 0
        public internal(set) var duplicates = 0
        public internal(set) var gaps = 0
    }

    struct Line {
        enum Phase {
            case opening
            /// `probe` was sent.
            case probing
            /// `hello` was sent.
            case hello
            case live
        }

        let id: Int
        /// Of a stream that is kept in some proxy's buffer: ``ClientTransport/poll``.
        var transport: ClientTransport
        let openedAt: Instant
        var phase = Phase.opening
        var phaseAt: Instant
        /// Its hello asked for our session.
        var isResuming = false
        /// The event that authenticates a new session.
        var auth: ByteBuffer?
        /// On HTTP: when it began to listen, the last time.
        var listenAt: Instant?
        /// Of the poll.
        var wait = Span.zero
        /// Something came to the one who listens.
        var hasSpoken = false
        /// By then the stream has to have said something.
        var wordBy: Instant?

        mutating func enter(_ phase: Phase, now: Instant) {
            self.phase = phase
            self.phaseAt = now
        }
    }

    enum Role {
        case main, rival
    }

    /// Main works, and yet the session is to move.
    enum Moving {
        /// The server said so.
        case goaway
        /// The server does not hear us.
        case deaf
    }

    /// Whose turn it is in a round when what is tried fails.
    enum Turn {
        case fallback, websocket
    }

    struct Ping {
        let data: String
        let at: Instant
    }

    /// A connection that lived this long was useful: the backoff starts over.
    static let usefulAfter = Span.seconds(10)
    /// No second race within this time after one that the old line won.
    static let racePause = Span.seconds(10)
    /// In doubt, an attempt older than this is begun anew: its SYN may wait for a retransmission.
    static let staleAttempt = Span.seconds(1)
    /// A ping sent in doubt and younger than this need not be repeated.
    static let staleAsk = Span.seconds(1)
    static let ackEvents: UInt64 = 256
    static let ackBytes = 65_536
    /// A slow uplink needs time for what stands in the queue before the ping: 64 KiB/s, in steps so that little events do
    /// not count.
    static let uplinkStepBytes = 16_384
    static let uplinkStep = Span.milliseconds(250)
    /// A WebSocket that has not answered by then gets the fallback beside it.
    static let fallbackAfter = Span.seconds(2)
    /// A stream that says nothing for so long is kept in some proxy's buffer.
    static let firstWord = Span.seconds(3)
    /// The server's comments come every interval.
    static let streamSlack = Span.seconds(1)
    /// A request to listen that ended sooner has failed. Otherwise some proxy does not like long ones.
    static let shortestListen = Span.seconds(1)
    /// How long streams are not tried after one that fell silent.
    static let afterSilentStream = Span.seconds(900)
    /// Clients that wait for the same moment try one after the other: the next one knows how it went.
    static let stagger = Span.seconds(10)

    let options: Options
    var backoff: Backoff
    var outbox: ClientOutbox
    var roundTrip = RoundTripEstimator()
    var liveness = ClientLiveness()
    var ladder: TransportLadder
    var topics: [String: ClientTopic] = [:]
    public internal(set) var state = ConnectionState.idle
    public internal(set) var counts = Counts()

    var actions: [ConnectionAction] = []
    var now = Instant(microseconds: 0)
    var main: Line?
    var rival: Line?
    var lastLine = 0
    var lastSerial: UInt64 = 0
    var isOffline = false

    /// `HANDLE.SECRET`, once the server has given one.
    var session: String?
    /// Counted events of the server in this session.
    var received: UInt64 = 0
    /// Of these, what we have told it.
    var acknowledged: UInt64 = 0
    /// Their bytes since.
    var unacknowledgedBytes = 0
    var ackAt: Instant?
    /// By then we want a count from the server.
    var countAt: Instant?
    var ping: Ping?
    var pings = 0
    /// By then our own direction is taken for dead, even if the line carries events.
    var pongBy: Instant?

    var attemptAt: Instant?
    /// The server's advice, which no doubt may shorten.
    var attemptNotBefore = Instant(microseconds: 0)
    var raceNotBefore = Instant(microseconds: 0)
    var moving: Moving?
    /// In this round.
    var next: Turn?
    /// The server's, in this round.
    var advice: ClosedRange<Span>?
    /// From when on a WebSocket may be tried beside the fallback.
    var climbDue: Instant?
    /// When it will be.
    var climbAt: Instant?
    /// Longer polls are cut by somebody.
    var longestPoll: Span?
    /// When the last hello was answered.
    var liveAt = Instant(microseconds: 0)
    /// A late timer was excused, and nothing was heard since.
    var isForgiven = false
    var mustReauthenticate = false
    /// Credentials were asked anew because of 4001.
    var hasRefreshed = false
    /// Lines that we gave up after their hello: it may yet arrive, and take the session (4000) from the line that has it.
    var ghosts = 0
    var timerAt: Instant?

    /// - Parameter random: in 0..<1; asked only when a delay is drawn from a range that is not empty.
    public init(options: Options = Options(), random: @escaping () -> Double) {
        self.options = options
        self.backoff = Backoff(random: random)
        self.outbox = ClientOutbox(limit: options.queueBytes)
        self.ladder = TransportLadder(options.transports)
    }

    public mutating func handle(_ input: ConnectionInput, now: Instant) -> [ConnectionAction] {
        self.now = now
        self.actions = []
        switch input {
        case .connect: self.connect()
        case .close: self.stop(.closedByApp)
        case .subscribe(let id, let subscription, let since, let fields):
            self.subscribe(id: id, subscription, since: since, fields: fields)
        case .unsubscribe(let id, let subscription): self.unsubscribe(id: id, subscription)
        case .message(let id, let subscription, let data, let fields):
            self.message(id: id, subscription, data: data, fields: fields)
        case .opened(let line, let auth): self.opened(line, auth: auth)
        case .receive(let line, let text): self.receive(line, text)
        case .heard(let line): self.spoken(line)
        case .cut(let line): self.cut(line)
        case .closed(let line, let code, let reason, let retryAfter):
            self.closed(line, code: code, reason: reason, retryAfter: retryAfter)
        case .timer: self.timer()
        case .hidden: self.hide()
        case .shown: self.show()
        case .offline: self.goOffline()
        case .online: self.goOnline()
        case .doubt: self.doubt(.doubt)
        case .changed: self.networkChanged()
        case .probe: self.probe()
        case .memory(let memory): self.ladder.recall(memory, now: now)
        }
        self.planClimb(within: Self.stagger)
        if self.ladder.takeNews() { self.act(.remember(self.ladder.kept)) }
        self.arm()
        let actions = self.actions
        self.actions = []
        return actions
    }

    mutating func act(_ action: ConnectionAction) {
        self.actions.append(action)
    }

    mutating func tell(_ news: ConnectionNews) {
        self.actions.append(.tell(news))
    }

    mutating func become(_ state: ConnectionState, _ reason: ConnectionReason) {
        let change = ConnectionStateChange(
            state: state,
            previous: self.state,
            reason: reason,
            nextAttemptAt: state == .reconnecting ? self.attemptAt : nil
        )
        self.state = state
        self.tell(.state(change))
    }
}
