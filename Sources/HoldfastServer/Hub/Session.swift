import HoldfastCore
import HoldfastProtocol
import NIOCore

/// One client's session: what it is subscribed to, what waits to be written, and the transport that carries it, if any.
///
/// Belongs to one event loop at a time. Decisions are made by ``HoldfastCore/ServerSession``; this class carries them out.
final class Session {
    let name: SessionName
    /// The loop it belongs to. The shard lets go of its sessions when they end, which ends the cycle.
    var shard: Shard
    let dialect: Dialect
    // Touched by one thread, by functions that never call back: checking each access at run time would cost a delivery
    // about as much as making it.
    @exclusivity(unchecked) var core: ServerSession
    @exclusivity(unchecked) var queue = SendQueue()
    private(set) lazy var timer = SessionTimer(self)
    /// `nil` while the session waits for its client.
    private(set) var transport: WebSocketTransport?
    var subscriptions: [String: Subscription] = [:]
    /// Subscriptions that are still being sent what they missed, one after the other.
    private(set) var catchingUp: [Subscription] = []
    var isDirty = false
    /// What the client calls itself.
    var client: String?
    private(set) var timeline = Timeline()
    var roundTrips = RoundTrips()
    let openedAt: Int64
    /// Ticket of the last transport that asked for the session and knew its secret.
    private var claimedBy: UInt64 = 0
    private var isCarriedByClaimant = false
    /// When to look for events that are too old to be kept.
    private var nextExpiry: Instant
    private static let expiryInterval = Span.seconds(10)

    init(name: SessionName, dialect: Dialect, shard: Shard) {
        self.name = name
        self.dialect = dialect
        self.core = ServerSession(dialect: dialect)
        self.shard = shard
        self.openedAt = WallClock.microseconds()
        self.nextExpiry = .now + Self.expiryInterval
    }

    func record(_ happening: Timeline.Happening) {
        self.timeline.record(happening, at: WallClock.microseconds(), limit: self.shard.limits.timeline)
        self.shard.logger.debug("session", metadata: ["session": "\(self.name.handle)", "what": "\(happening)"])
    }

    /// The session leaves its loop: nothing there may reach it any more.
    func leaveTimer() {
        self.timer.letGo()
        self.timer = SessionTimer(self)
    }

    // MARK: Sending

    /// Queues an event; it leaves at the end of this turn of the loop.
    func send(_ event: EncodedEvent, now: Instant) {
        if self.dialect == .native, event.isCounted {
            self.core.outbox.append(event, now: now, limits: self.shard.limits.outbox)
        }
        guard self.transport != nil else { return }
        guard self.queue.append(event, limit: self.shard.limits.slowConsumerBytes) else {
            return self.letGoOfSlowConsumer()
        }
        self.shard.markDirty(self)
    }

    func send(_ json: ByteBuffer, isCounted: Bool = true) {
        self.send(EncodedEvent(json, isCounted: isCounted), now: .now)
    }

    /// More waits for the session than may.
    func letGoOfSlowConsumer() {
        self.shard.metrics.slowConsumers += 1
        let waiting = self.queue.bytes + self.catchingUp.reduce(0) { $0 + $1.waitingBytes }
        self.queue.removeAll()
        self.end(
            .slowConsumer,
            reason: "slow consumer: \(waiting) bytes wait, the limit is \(self.shard.limits.slowConsumerBytes)"
        )
    }

    /// Writes what waits, as far as the transport takes it.
    func flush(_ cache: inout MergeCache) {
        // A write may find the connection dead and take the transport away, before it returns: look again each time, and
        // take from the queue first.
        while let transport = self.transport, !self.queue.isEmpty, transport.isWritable {
            let count = self.queue.count(atMost: WebSocketTransport.writeBytes)
            let frames = cache.merged(self.queue.events, first: count)
            self.queue.removeFirst(count)
            transport.write(frames)
            if self.queue.isEmpty, !self.catchingUp.isEmpty { self.catchUp() }
        }
    }

    /// The subscription is sent what it missed before it gets anything newer.
    func catchUp(_ subscription: Subscription) {
        self.catchingUp.append(subscription)
        self.catchUp()
    }

    /// Takes from what was missed about as much as one write takes. A history may be larger than what may wait for a slow
    /// consumer, and a client that reads is none.
    private func catchUp() {
        let now = Instant.now
        let sentAt = Timestamp.text(microseconds: WallClock.microseconds())
        while let subscription = self.catchingUp.first, self.queue.bytes < WebSocketTransport.writeBytes {
            guard subscription.session === self, let publication = subscription.waiting?.popFirst() else {
                subscription.waiting = nil
                subscription.waitingBytes = 0
                self.catchingUp.removeFirst()
                continue
            }
            guard publication.sequence > subscription.seen else { continue }
            subscription.seen = publication.sequence
            self.send(publication.encoded(self.dialect, sentAt: sentAt, extras: subscription.extras), now: now)
            guard self.transport != nil else { return }
        }
    }

    // MARK: Transports

    enum Claim {
        case taken
        /// One that asked later is about to have it, unless it dies first.
        case later
        /// One that asked later has it.
        case never
    }

    /// A transport wants to carry the session.
    func claim(_ ticket: UInt64) -> Claim {
        guard ticket >= self.claimedBy else { return self.isCarriedByClaimant ? .never : .later }
        if ticket > self.claimedBy { self.isCarriedByClaimant = false }
        self.claimedBy = ticket
        return .taken
    }

    /// A transport carries the session from now on.
    func attach(_ transport: WebSocketTransport) {
        self.isCarriedByClaimant = true
        self.transport = transport
        transport.session = self
        self.shard.setTimer(self.timer)
        self.record(.opened(transport: "websocket", remote: transport.remote))
    }

    /// The client goes on over a new transport.
    /// - Parameter received: how many events the client has had.
    /// - Returns: `false` if that count cannot be; the session has ended.
    func resume(on transport: WebSocketTransport, received: UInt64, hello: (UInt64) -> ByteBuffer) -> Bool {
        self.letGoOfTransport()
        self.queue.removeAll()
        guard let events = self.core.resume(received: received) else {
            self.end(nil, reason: "the client claims to have had \(received) events, which cannot be repeated from")
            return false
        }
        self.attach(transport)
        self.record(.resumed(repeated: events.count))
        self.shard.metrics.resumed += 1
        // Repeated events are in the outbox already, so they and the reply go straight into the queue. They may be more
        // than a slow consumer's limit: the outbox has a limit of its own.
        _ = self.queue.append(EncodedEvent(hello(self.core.tellReceived()), isCounted: false), limit: .max)
        for event in events { _ = self.queue.append(event, limit: .max) }
        self.shard.markDirty(self)
        return true
    }

    /// The transport is gone. A native session waits for its client.
    func transportClosed(_ transport: WebSocketTransport, reason: String) {
        guard self.transport === transport else { return }
        self.transport = nil
        self.claimedBy = 0
        transport.session = nil
        self.queue.removeAll()
        self.record(.closed(reason: reason))
        switch self.core.detach(now: .now, ttl: .seconds(self.shard.configuration.sessionTTL)) {
        case .wait: self.shard.setTimer(self.timer)
        case .end: self.shard.forget(self)
        }
    }

    /// The old transport has been replaced.
    private func letGoOfTransport() {
        self.handOverTransport()?.value.close(.sessionReplaced, reason: "session replaced by a newer transport")
    }

    /// The session moves to another loop. - Returns: its old transport, which is still open and belongs to this loop.
    func handOverTransport() -> NIOLoopBound<WebSocketTransport>? {
        guard let old = self.transport else { return nil }
        self.transport = nil
        old.session = nil
        old.pause()
        self.record(.replaced)
        return NIOLoopBound(old, eventLoop: self.shard.loop)
    }

    /// The transport that asked for this session died before it got it. The session waits for the next one.
    func transportMissed() {
        // Those that asked before may have it now.
        self.claimedBy = 0
        guard self.transport == nil, self.core.state == .attached else { return self.shard.setTimer(self.timer) }
        switch self.core.detach(now: .now, ttl: .seconds(self.shard.configuration.sessionTTL)) {
        case .wait: self.shard.setTimer(self.timer)
        case .end: self.shard.forget(self)
        }
    }

    /// Ends the session, with a Close frame if a transport is there to carry it.
    func end(_ code: CloseCode?, reason: String) {
        self.core.end()
        self.record(.ended(code: code, reason: reason))
        if let transport = self.transport {
            self.transport = nil
            transport.session = nil
            if let code { transport.close(code, reason: reason) }
        }
        self.shard.forget(self)
        self.queue.removeAll()
    }

    /// Writes what waits without waiting for the end of the turn, so that a Close frame can follow it.
    func flushNow() {
        var cache = MergeCache()
        self.flush(&cache)
    }

    // MARK: Time

    fileprivate var deadline: Instant? {
        switch self.core.state {
        case .waiting(let until): until
        case .attached: self.nextExpiry
        case .ended: nil
        }
    }

    fileprivate func timerFired(now: Instant) {
        self.nextExpiry = now + Self.expiryInterval
        self.core.outbox.expire(now: now, limits: self.shard.limits.outbox)
        guard case .waiting(let until) = self.core.state, until <= now else { return }
        self.core.end()
        self.record(.expired)
        self.shard.metrics.sessionsExpired += 1
        self.shard.forget(self)
    }
}

/// A session's place in the timer wheel of one event loop.
///
/// An object of its own, made anew when the session moves: an entry that is still in the old loop's wheel then finds a timer
/// without a session, instead of a session that belongs to another thread.
final class SessionTimer: LoopTimer {
    // Not weak: that would give every session a side table, and every delivery a slow retain. The shard lets go of a
    // session's timer before it lets go of the session.
    private unowned var session: Session?

    init(_ session: Session) {
        self.session = session
    }

    func letGo() { self.session = nil }

    override var deadline: Instant? { self.session?.deadline }

    override func timerFired(now: Instant) { self.session?.timerFired(now: now) }
}
