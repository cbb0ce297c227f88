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
    let home: SessionHome
    let work: SessionWork
    /// `nil` until the client has authenticated itself.
    var identity: Identity?
    /// When the client must have done so; `nil` for never.
    private let authenticateBy: Instant?
    let dialect: Dialect
    // Touched by one thread, by functions that never call back: checking each access at run time would cost a delivery
    // about as much as making it.
    @exclusivity(unchecked) var core: ServerSession
    @exclusivity(unchecked) var queue = SendQueue()
    private(set) lazy var timer = SessionTimer(self)
    /// `nil` while the session waits for its client.
    private(set) var transport: SessionTransport?
    /// Whether the client's last `hello` came over HTTP, so that streams and polls may come and go without another one.
    private(set) var isOverHTTP = false
    /// Those included whose client has no reply yet.
    var subscriptions = NameTable<Subscription>()
    private var subscriptionCount: UInt64 = 0
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
    /// Highest number that the client has given a stream or a poll.
    private var lastListen: UInt64 = 0
    /// When to look for events that are too old to be kept.
    private var nextExpiry: Instant
    private static let expiryInterval = Span.seconds(10)

    init(name: SessionName, dialect: Dialect, shard: Shard) {
        self.name = name
        self.dialect = dialect
        self.core = ServerSession(dialect: dialect)
        self.shard = shard
        self.home = SessionHome(name.handle, shard)
        self.work = SessionWork(topicsAtOnce: shard.limits.topicsAtOnce)
        let time = shard.limits.authenticationTime
        self.authenticateBy =
            time > 0 && shard.configuration.everyServiceAsksForAuthentication ? shard.now + .seconds(time) : nil
        self.openedAt = WallClock.microseconds()
        self.nextExpiry = shard.now + Self.expiryInterval
    }

    func record(_ happening: Timeline.Happening) {
        self.timeline.record(happening, at: WallClock.microseconds(), limit: self.shard.limits.timeline)
        self.shard.logger.debug("session", metadata: ["session": "\(self.name.handle)", "what": "\(happening)"])
    }

    func nextOrdinal() -> UInt64 {
        self.subscriptionCount += 1
        return self.subscriptionCount
    }

    /// The session leaves its loop: nothing there may reach it any more.
    func leaveTimer() {
        self.timer.letGo()
        self.timer = SessionTimer(self)
    }

    // MARK: Sending

    /// Queues an event; it leaves at the end of this turn of the loop.
    func send(_ event: EncodedEvent, now: Instant) {
        if self.dialect == .native, event.isCounted, self.core.state != .ended {
            self.core.outbox.append(event, now: now, limits: self.shard.limits.outbox)
        }
        guard self.transport != nil else { return }
        if self.queue.append(event, limit: self.shard.limits.slowConsumerBytes) { return self.shard.markDirty(self) }
        // Much may have come in one turn. Only what the transport does not take makes a consumer slow.
        self.flushNow()
        guard self.transport != nil else { return }
        guard self.queue.append(event, limit: self.shard.limits.slowConsumerBytes) else {
            return self.letGoOfSlowConsumer()
        }
        self.shard.markDirty(self)
    }

    func send(_ json: ByteBuffer, isCounted: Bool = true) {
        self.send(EncodedEvent(json, isCounted: isCounted), now: self.shard.now)
    }

    /// Sends a publication that has passed the subscription's filters.
    /// - Parameter isLast: whether no other that was held back follows at once.
    func send(_ encodings: inout Encodings, _ subscription: Subscription, isLast: Bool = true, now: Instant) {
        switch self.dialect {
        case .native: self.shard.metrics.nativeDeliveries += 1
        case .plain: self.shard.metrics.plainDeliveries += 1
        }
        let place = subscription.place(of: encodings.publication, isLast: isLast)
        let event =
            subscription.extras.isEmpty
            ? encodings.event(self.dialect, place)
            : encodings.event(self.dialect, place, extras: subscription.extras)
        self.send(event, now: now)
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
            let count = self.queue.count(atMost: SessionTransport.writeBytes)
            let merged = transport.merged(self.queue.events, first: count, cache: &cache)
            self.queue.removeFirst(count)
            transport.write(merged)
            if self.queue.isEmpty, !self.catchingUp.isEmpty { self.catchUp() }
        }
    }

    /// The subscription is sent what it missed before it gets anything newer.
    func catchUp(_ subscription: Subscription) {
        self.catchingUp.append(subscription)
        self.catchUp()
    }

    /// The session has come to another loop, and its subscriptions with what they are still to be sent.
    func catchUpAnew() {
        self.catchingUp = self.subscriptions.values.filter { $0.waiting != nil && !$0.isPending }
        self.catchUp()
    }

    /// Takes from what was missed about as much as one write takes. A history may be larger than what may wait for a slow
    /// consumer, and a client that reads is none.
    private func catchUp() {
        let now = self.shard.now
        let sentAt = self.shard.sentAt
        let most = min(SessionTransport.writeBytes, self.shard.limits.slowConsumerBytes)
        while let subscription = self.catchingUp.first, self.queue.bytes < most {
            guard subscription.session === self, let publication = subscription.waiting?.popFirst() else {
                subscription.waiting = nil
                subscription.waitingBytes = 0
                self.catchingUp.removeFirst()
                continue
            }
            if publication.sequence > subscription.liveFrom {
                subscription.waitingBytes -= publication.data.readableBytes
            }
            guard publication.sequence > subscription.seen else { continue }
            var encodings = Encodings(publication, sentAt: sentAt)
            self.shard.deliver(&encodings, subscription, self, now: now)
            guard self.transport != nil else { return }
        }
    }

    // MARK: Transports

    enum Claim: Sendable {
        case taken
        /// A transport that asked later is about to have it, unless it dies first.
        case later
        case refused(Refusal)
    }

    enum Refusal: Sendable {
        /// There is none of that name, or the secret is wrong.
        case unknown
        /// A WebSocket carries it, and nothing but a `hello` takes it from there.
        case onWebSocket
        /// A transport that asked later has it.
        case superseded
    }

    /// A transport wants to carry the session.
    /// - Parameters:
    ///   - name: with the secret that the client has shown.
    ///   - ticket: orders transports by when they asked, whatever loops they are on.
    ///   - isOverHTTP: it wants it only if the client's last `hello` came over HTTP.
    func claim(_ name: SessionName, _ ticket: UInt64, isOverHTTP: Bool) -> Claim {
        guard name == self.name else { return .refused(.unknown) }
        guard self.isOverHTTP || !isOverHTTP else { return .refused(.onWebSocket) }
        guard ticket >= self.claimedBy else { return self.isCarriedByClaimant ? .refused(.superseded) : .later }
        if ticket > self.claimedBy { self.isCarriedByClaimant = false }
        self.claimedBy = ticket
        return .taken
    }

    /// A transport carries the session from now on.
    func attach(_ transport: SessionTransport) {
        self.isCarriedByClaimant = true
        self.transport = transport
        transport.session = self
        self.shard.setTimer(self.timer)
        self.isOverHTTP = transport.kind != .websocket
        self.record(.opened(transport: transport.kind.rawValue, remote: transport.remote))
    }

    /// The client goes on over a new transport.
    /// - Parameter received: how many events the client has had.
    /// - Returns: `false` if that count cannot be; the session has ended.
    func resume(on transport: SessionTransport, received: UInt64, hello: (UInt64) -> ByteBuffer) -> Bool {
        // What waits and does not count was meant for the old transport, an earlier reply to `hello` for one.
        self.queue.removeAll()
        guard let events = self.takeOver(received: received) else { return false }
        self.shard.metrics.resumed += 1
        self.carry([EncodedEvent(hello(self.core.tellReceived()), isCounted: false)] + events, on: transport)
        return true
    }

    /// Another transport is about to carry the session.
    /// - Parameter received: how many events the client has had.
    /// - Returns: what is to be sent before anything newer; `nil` if that count cannot be: the session has ended.
    func takeOver(received: UInt64) -> [EncodedEvent]? {
        self.letGoOfTransport()
        guard let events = self.core.resume(received: received) else {
            self.endForCount(received)
            return nil
        }
        return self.withUncounted(events)
    }

    /// Empties the queue, whose counted events are among those that the outbox has given.
    private func withUncounted(_ events: [EncodedEvent]) -> [EncodedEvent] {
        defer { self.queue.removeAll() }
        return self.queue.events.filter { !$0.isCounted } + events
    }

    /// They are in the outbox already, so they go straight into the queue. They may be more than a slow consumer's limit: the
    /// outbox has a limit of its own.
    private func enqueueRepeated(_ events: [EncodedEvent]) {
        for event in events { _ = self.queue.append(event, limit: .max) }
    }

    private func endForCount(_ received: UInt64) {
        self.end(nil, reason: "the client claims to have had \(received) events, which cannot be repeated from")
    }

    /// - Parameter events: what ``takeOver(received:)`` gave.
    func carry(_ events: [EncodedEvent], on transport: SessionTransport) {
        self.attach(transport)
        self.record(.resumed(repeated: events.count { $0.isCounted }))
        self.enqueueRepeated(events)
        self.catchUp()
        self.shard.markDirty(self)
    }

    /// Whether a stream or a poll is newer than those before. One that the client has given up may come behind its successor,
    /// over another connection: the client numbers them so that it takes nothing away.
    func isNewest(_ number: UInt64?) -> Bool {
        guard let number else { return true }
        guard number > self.lastListen else { return false }
        self.lastListen = number
        return true
    }

    /// The client polls again, over the transport that it has.
    /// - Parameter received: how many events it has had. Those after it that were written did not reach it.
    /// - Returns: `false` if that count cannot be; the session has ended.
    func goOn(received: UInt64) -> Bool {
        let written = self.core.outbox.sent - UInt64(self.queue.events.count { $0.isCounted })
        if received == written { return self.core.outbox.acknowledge(received) }
        guard let events = self.core.outbox.resume(after: received) else {
            let transport = self.transport
            self.endForCount(received)
            transport?.drop()
            return false
        }
        self.enqueueRepeated(self.withUncounted(events))
        self.catchUp()
        return true
    }

    /// The transport is gone. A native session waits for its client.
    func transportClosed(_ transport: SessionTransport, reason: String) {
        guard self.transport === transport else { return }
        self.transport = nil
        self.claimedBy = 0
        transport.session = nil
        self.queue.removeAll()
        self.record(.closed(reason: reason))
        switch self.core.detach(now: self.shard.now, ttl: .seconds(self.shard.configuration.sessionTTL)) {
        case .wait: self.shard.setTimer(self.timer)
        case .end: self.shard.forget(self)
        }
    }

    /// The old transport has been replaced.
    private func letGoOfTransport() {
        self.handOverTransport()?.value.close(.sessionReplaced, reason: "session replaced by a newer transport")
    }

    /// The session moves to another loop. - Returns: its old transport, which is still open and belongs to this loop.
    func handOverTransport() -> NIOLoopBound<SessionTransport>? {
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
        switch self.core.detach(now: self.shard.now, ttl: .seconds(self.shard.configuration.sessionTTL)) {
        case .wait: self.shard.setTimer(self.timer)
        case .end: self.shard.forget(self)
        }
    }

    /// No request of the client has come for as long as a session waits.
    func abandoned() {
        self.transport?.session = nil
        self.transport = nil
        self.expire()
    }

    private func expire() {
        self.core.end()
        self.record(.expired)
        self.shard.metrics.sessionsExpired += 1
        self.queue.removeAll()
        self.shard.forget(self)
    }

    /// Ends the session, and tells the client why if a transport is there to carry it.
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
        case .attached:
            min(self.nextExpiry, self.isAuthenticated ? self.nextExpiry : self.authenticateBy ?? self.nextExpiry)
        case .ended: nil
        }
    }

    fileprivate func timerFired(now: Instant) {
        if let time = self.authenticateBy, time <= now, !self.isAuthenticated, self.core.state == .attached {
            return self.end(.authenticationExpired, reason: "not authenticated in time")
        }
        self.nextExpiry = now + Self.expiryInterval
        self.core.outbox.expire(now: now, limits: self.shard.limits.outbox)
        if case .waiting(let until) = self.core.state, until <= now { self.expire() }
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
