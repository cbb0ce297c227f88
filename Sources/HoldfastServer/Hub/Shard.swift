import DequeModule
import HoldfastBroker
import HoldfastCore
import HoldfastProtocol
import Logging
import NIOCore

/// Everything that one event loop has: its sessions, its topics, its timers, and what it will write this turn.
///
/// `@unchecked Sendable`: a reference may travel, but everything inside is touched on ``loop`` only, which the entry points
/// check. ``mailbox`` is the one exception and has its own lock.
final class Shard: @unchecked Sendable {
    let index: Int
    let loop: any EventLoop
    unowned let gateway: Gateway
    // Copies of what deliveries need: reaching through the gateway would cost more than a delivery itself.
    let limits: Configuration.Limits
    let logger: Logger
    let broker: any Broker
    let isEcho: Bool
    private let showsTimes: Bool
    let mailbox: Mailbox

    private(set) var sessions: [SessionName.Handle: Session] = [:]
    /// Sessions that are over, while their work is finished and services are told.
    private(set) var windingUp: [SessionName.Handle: Session] = [:]
    private(set) var transports: [ObjectIdentifier: SessionTransport] = [:]
    private var topics = NameTable<Topic>()
    private(set) var ended = Deque<SessionReport>()
    // Touched by one thread, for each delivery, by functions that never call back: see Session.
    @exclusivity(unchecked) private var dirty = Deque<Session>()
    private var isFlushScheduled = false
    @exclusivity(unchecked) private var mergeCache = MergeCache()
    private var wheel: TimerWheel<LoopTimer>
    private var alarms = Alarms()
    private var alarmTask: Scheduled<Void>?
    private var sweep: RepeatedTask?
    @exclusivity(unchecked) var metrics = ShardMetrics()
    /// When the broker is to forget what is too old; the first shard sees to it.
    private var nextExpiry: Instant

    var configuration: Configuration { self.gateway.configuration }

    init(index: Int, loop: any EventLoop, gateway: Gateway) {
        self.index = index
        self.loop = loop
        self.gateway = gateway
        self.limits = gateway.configuration.limits
        self.logger = gateway.logger
        self.broker = gateway.broker
        self.isEcho = gateway.configuration.isEcho
        self.showsTimes = gateway.configuration.pushTimes
        self.mailbox = Mailbox(loop: loop)
        let now = Instant(loop.now)
        self.wheel = TimerWheel(now: now)
        self.nextExpiry = now
    }

    // MARK: Timers

    func start() {
        self.loop.assertInEventLoop()
        let tick = TimeAmount.microseconds(self.wheel.tick.microseconds)
        self.sweep = self.loop.scheduleRepeatedTask(initialDelay: tick, delay: tick) { [weak self] _ in
            self?.sweepTimers()
        }
    }

    func stop() {
        self.loop.assertInEventLoop()
        self.sweep?.cancel()
        self.sweep = nil
        self.alarmTask?.cancel()
        self.alarmTask = nil
    }

    private func sweepTimers() {
        let now = self.now
        if self.index == 0, now >= self.nextExpiry {
            self.nextExpiry = now + .seconds(1)
            self.broker.expire()
            self.gateway.logCounts()
        }
        for timer in self.wheel.advance(to: now) {
            // The wheel fires up to a tick early, so that no bound is overrun; the timer sees its own deadline.
            if let deadline = timer.deadline, deadline < now + self.wheel.tick {
                timer.timerFired(now: max(now, deadline))
            }
            self.setTimer(timer)
        }
    }

    /// To be called when a timer's deadline has come nearer. One that moved away is looked at when it fires.
    func setTimer(_ timer: LoopTimer) {
        self.loop.assertInEventLoop()
        guard let deadline = timer.deadline else { return self.wheel.cancel(timer) }
        self.wheel.set(timer, at: deadline)
    }

    /// To be called when what a subscription waits for has changed.
    func setAlarm(_ subscription: Subscription) {
        self.loop.assertInEventLoop()
        let isThere = subscription.index >= 0 && subscription.session != nil
        guard self.alarms.set(subscription, at: isThere ? subscription.nextAlarm : nil) else { return }
        self.planAlarms()
    }

    private func planAlarms() {
        self.alarmTask?.cancel()
        self.alarmTask = self.alarms.next.map { next in
            let time = NIODeadline.uptimeNanoseconds(UInt64(max(0, next.microseconds)) * 1000)
            return self.loop.scheduleTask(deadline: time) { self.alarmsFired() }
        }
    }

    private func alarmsFired() {
        // The clock's fractions of a microsecond must not make an alarm look as if it were not due.
        let now = max(self.now, self.alarms.next ?? self.now)
        // A throttled publication becomes due for many at once.
        var released: [ObjectIdentifier: Encodings] = [:]
        for subscription in self.alarms.due(now) {
            subscription.session?.alarmFired(subscription, now: now, &released)
        }
        self.planAlarms()
    }

    func randomBits() -> UInt32 { UInt32(truncatingIfNeeded: self.gateway.random()) }

    // MARK: Transports and sessions

    func add(_ transport: SessionTransport) {
        self.loop.assertInEventLoop()
        self.transports[ObjectIdentifier(transport)] = transport
        self.metrics.transportsOpened[transport.kind, default: 0] += 1
        self.gateway.registry.transportOpened()
        self.setTimer(transport)
    }

    func remove(_ transport: SessionTransport, reason: String) {
        self.loop.assertInEventLoop()
        guard self.transports.removeValue(forKey: ObjectIdentifier(transport)) != nil else { return }
        self.wheel.cancel(transport)
        self.metrics.closes[reason, default: 0] += 1
        self.gateway.registry.transportClosed()
    }

    /// A new session, or `nil` if the gateway has as many as it may have.
    func openSession(_ dialect: Dialect) -> Session? {
        self.loop.assertInEventLoop()
        var random = RandomSource(source: self.gateway.random)
        let name = SessionName(firstDigits: self.configuration.sessionDigits, using: &random)
        guard self.gateway.registry.insert(name.handle, shard: self.index, limit: self.limits.sessions) else {
            return nil
        }
        let session = Session(name: name, dialect: dialect, shard: self)
        self.sessions[name.handle] = session
        self.metrics.sessionsOpened += 1
        return session
    }

    /// Takes over a session that lived on another loop.
    func adopt(_ session: Session) {
        self.loop.assertInEventLoop()
        session.shard = self
        self.sessions[session.name.handle] = session
        session.home.move(to: self)
        self.gateway.registry.move(session.name.handle, to: self.index)
    }

    /// Hands a session over to another loop: nothing here knows it any more.
    func release(_ session: Session) {
        self.loop.assertInEventLoop()
        for subscription in session.subscriptions.values { self.leave(subscription) }
        self.letGo(of: session)
    }

    private func letGo(of session: Session) {
        self.wheel.cancel(session.timer)
        session.leaveTimer()
        if session.isDirty {
            self.dirty.removeAll { $0 === session }
            session.isDirty = false
        }
        self.sessions[session.name.handle] = nil
    }

    /// The session is over. What it was is kept for those who ask later; what it has under way is finished first.
    func forget(_ session: Session) {
        self.loop.assertInEventLoop()
        guard self.sessions[session.name.handle] === session else { return }
        self.ended.append(session.report)
        self.letGo(of: session)
        self.gateway.registry.remove(session.name.handle)
        // The limit is the gateway's; each loop has its part of it.
        let limit = (self.limits.endedSessions + self.gateway.shardCount - 1) / self.gateway.shardCount
        while self.ended.count > limit { self.ended.removeFirst() }
        self.windingUp[session.name.handle] = session
        self.gateway.registry.windUpBegins()
        session.submit(.windUp, nil)
    }

    /// All is done for a session that is over.
    func woundUp(_ session: Session) {
        self.loop.assertInEventLoop()
        guard self.windingUp.removeValue(forKey: session.name.handle) != nil else { return }
        session.home.end()
        self.gateway.registry.windUpEnds()
    }

    /// The loop is about to end: answers for sessions find nobody.
    func abandonSessions() {
        for session in Array(self.sessions.values) + Array(self.windingUp.values) { session.home.end() }
    }

    /// The process is gone, as far as anybody can tell: nobody is told anything, and nothing holds the memory.
    func vanish() {
        self.stop()
        self.abandonSessions()
        for session in self.sessions.values {
            session.leaveTimer()
            for subscription in session.subscriptions.values { subscription.session = nil }
        }
        self.sessions = [:]
        self.windingUp = [:]
        self.transports = [:]
        self.topics = NameTable()
        self.dirty = []
        self.wheel = TimerWheel(now: self.now)
    }

    /// A session that lives here, or is over and has still work under way.
    func anySession(_ handle: SessionName.Handle) -> Session? { self.sessions[handle] ?? self.windingUp[handle] }

    // MARK: Topics

    func topic(_ name: String) -> Topic {
        if let topic = self.topics[name] { return topic }
        let topic = Topic(name: name)
        self.topics[name] = topic
        return topic
    }

    func leave(_ subscription: Subscription) {
        self.loop.assertInEventLoop()
        guard subscription.index >= 0 else { return }
        subscription.topic.remove(subscription)
        subscription.session = nil
        self.setAlarm(subscription)
        guard subscription.topic.subscribers.isEmpty else { return }
        self.topics[subscription.topic.name] = nil
        self.broker.unsubscribe(
            subscription.topic.name, shard: self.index, mayReturn: subscription.topic.hasHadNative
        )
    }

    /// The broker has no way to get a topic's publications any more: subscribers are told, instead of waiting for ever.
    func endSubscriptions(to name: String) {
        self.loop.assertInEventLoop()
        let refusal = CallbackAnswer.Refusal(.serviceUnavailable)
        for subscription in Array(self.topics[name]?.subscribers ?? []) {
            subscription.session?.submit(.revoke(subscription, refusal), name)
        }
    }

    // MARK: Delivery

    /// Called by the broker, on any thread.
    func post(_ publication: Publication) {
        self.mailbox.post(publication) { self.drainMailbox() }
    }

    private func drainMailbox() {
        self.loop.assertInEventLoop()
        let publications = self.mailbox.take()
        guard !publications.isEmpty else { return }
        let now = self.now
        let sentAt = self.sentAt
        for publication in publications { self.deliver(publication, now: now, sentAt: sentAt) }
    }

    /// What plain clients are told as the time of writing; `nil` if they are told no times.
    var sentAt: String? { self.showsTimes ? Timestamp.text(microseconds: WallClock.microseconds()) : nil }

    /// Hands a publication to each subscriber of this loop. Encoded once per dialect, unless a subscription has extra fields or
    /// filters have kept something from it.
    private func deliver(_ publication: Publication, now: Instant, sentAt: String?) {
        guard let topic = self.topics[publication.subscription] else { return }
        var encodings = Encodings(publication, sentAt: sentAt)
        // Looked at once, not for each subscriber.
        let isForAll = publication.conditions == nil && !publication.isGap
        // Backwards: a slow consumer that is let go here gives its place to the last one, which has been served.
        var index = topic.subscribers.count
        while index > 0 {
            index -= 1
            guard index < topic.subscribers.count else { continue }
            let subscription = topic.subscribers[index]
            guard subscription.waiting == nil else {
                self.hold(publication, subscription)
                continue
            }
            guard publication.sequence > subscription.seen, let session = subscription.session else { continue }
            let dialect = session.dialect
            // The common case, written out: it is what the gateway does all day.
            guard isForAll, subscription.extras.isEmpty,
                dialect == .plain || subscription.told + 1 == publication.sequence && subscription.filter == nil
            else {
                self.deliver(&encodings, subscription, session, now: now)
                continue
            }
            subscription.seen = publication.sequence
            subscription.told = publication.sequence
            if dialect == .native { self.metrics.nativeDeliveries += 1 } else { self.metrics.plainDeliveries += 1 }
            session.send(encodings.event(dialect), now: now)
        }
    }

    /// The subscription gets it later: it is not live yet.
    private func hold(_ publication: Publication, _ subscription: Subscription) {
        guard !subscription.isOverrun else { return }
        subscription.waiting?.append(publication)
        subscription.waitingBytes += publication.data.readableBytes
        guard subscription.waitingBytes > self.limits.slowConsumerBytes else { return }
        guard subscription.isPending, subscription.session != nil else {
            subscription.session?.letGoOfSlowConsumer()
            return
        }
        subscription.isOverrun = true
        subscription.waiting = []
    }

    /// Hands a publication to one subscriber, if its filters let it pass.
    func deliver(_ encodings: inout Encodings, _ subscription: Subscription, _ session: Session, now: Instant) {
        let publication = encodings.publication
        subscription.seen = publication.sequence
        if publication.isGap {
            subscription.told = publication.sequence
            guard session.dialect == .native else { return }
            self.metrics.gaps += 1
            return session.send(encodings.event(.native), now: now)
        }
        if let conditions = publication.conditions {
            switch subscription.admit(publication, conditions, now: now) {
            case .deliver: break
            case .drop(let reason):
                self.metrics.drops[reason, default: 0] += 1
                return
            case .hold(_, let isReplacement):
                if isReplacement { self.metrics.drops[.throttle, default: 0] += 1 }
                return self.setAlarm(subscription)
            }
        }
        session.send(&encodings, subscription, now: now)
    }

    // MARK: Writing

    /// The session has something to write. All that one turn of the loop produces leaves in one write per session.
    func markDirty(_ session: Session) {
        guard !session.isDirty else { return }
        session.isDirty = true
        self.dirty.append(session)
        guard !self.isFlushScheduled else { return }
        self.isFlushScheduled = true
        self.loop.execute { self.flush() }
    }

    /// Sessions written to before the loop looks at its sockets again.
    private static let flushBatch = 128
    /// Long enough for SwiftNIO to see that nothing is due, which is when it asks the kernel for input.
    private static let breath = TimeAmount.microseconds(20)

    /// A write costs the kernel microseconds, so a thousand of them are long: in between the loop reads what has come, and
    /// what is published meanwhile leaves with the writes that are still to come instead of a round later.
    private func flush() {
        var left = Self.flushBatch
        while left > 0, let session = self.dirty.popFirst() {
            left -= 1
            session.isDirty = false
            session.flush(&self.mergeCache)
        }
        guard self.dirty.isEmpty else {
            self.loop.scheduleTask(in: Self.breath) { self.flush() }
            return
        }
        self.isFlushScheduled = false
        self.mergeCache = MergeCache()
    }

    // MARK: Looking at it

    /// Text that is no event. What is not even JSON is not counted, as in SocketShark (socketshark.md §3.1).
    func countInvalid(_ text: ByteBuffer) {
        guard (try? JSONValue(parsing: text, limits: self.limits.json)) != nil else { return }
        self.metrics.clientEvents[.init(event: "invalid", isSuccess: false), default: 0] += 1
    }

    func collectMetrics() -> ShardMetrics {
        self.loop.assertInEventLoop()
        var metrics = self.metrics
        for transport in self.transports.values { metrics.transports[transport.kind, default: 0] += 1 }
        metrics.topics = self.topics.count
        metrics.windingUp = self.windingUp.count
        for session in self.sessions.values {
            switch session.core.state {
            case .attached:
                let transport = session.transport?.kind
                metrics.attachedSessions[.init(dialect: session.dialect, transport: transport), default: 0] += 1
            case .waiting: metrics.waitingSessions += 1
            case .ended: break
            }
            metrics.subscriptions += session.subscriptions.count
            metrics.queueBytes += session.queue.bytes
            metrics.outboxBytes += session.core.outbox.keptBytes
        }
        return metrics
    }
}
