import DequeModule
import HoldfastBroker
import HoldfastCore
import HoldfastProtocol
import NIOCore

/// How subscriptions begin and end (socketshark.md §5.2 to §5.7).
extension Session {
    private struct Request {
        let event: ClientEvent
        let name: String
        let service: ServiceRules
        let extras: [JSONObject.Member]
        let since: Position?
        /// The event is done.
        let done: () -> Void
    }

    func subscribe(_ event: ClientEvent, _ done: @escaping () -> Void) throws(ProtocolError) {
        let (name, service) = try self.target(of: event)
        guard !service.settings.requireAuthentication || self.isAuthenticated else { throw .authenticationRequired }
        guard self.subscriptions[name.text] == nil else { throw .alreadySubscribed }
        try self.requireRoom()
        var since: Position?
        if self.dialect == .native, let value = event.object["since"], value.kind != .null {
            since = Position(value, limits: self.shard.limits.json)
            guard since != nil else { throw .badSince }
        }
        let request = Request(
            event: service.settings.callbacks.isEmpty ? event : event.copied(), name: name.text, service: service,
            extras: self.extras(of: event, service), since: since, done: done
        )
        let members = self.members(name.text, extras: request.extras, authorizerFields: [])
        self.call(.authorizer, of: service, members) { answer in
            if let refusal = answer.refusal(.unauthorized) {
                self.refuse(request.event, refusal)
                return done()
            }
            self.join(request, authorizerFields: answer.members(service.settings.authorizerFields))
        }
    }

    private func requireRoom() throws(ProtocolError) {
        let limit = self.shard.limits.subscriptions
        guard self.subscriptions.count < limit else {
            throw .limitExceeded("The number of subscriptions", limit: limit, actual: self.subscriptions.count + 1)
        }
    }

    /// From here on messages are kept for the subscription.
    private func join(_ request: Request, authorizerFields: [JSONObject.Member]) {
        do throws(ProtocolError) {
            // Others may have been authorized side by side with this one.
            try self.requireRoom()
        } catch {
            self.refuse(request.event, error)
            return request.done()
        }
        let subscription = Subscription(
            topic: self.shard.topic(request.name), session: self, service: request.service, extras: request.extras
        )
        subscription.ordinal = self.nextOrdinal()
        if !authorizerFields.isEmpty { subscription.theDuties.authorizerFields = authorizerFields }
        subscription.topic.add(subscription)
        self.subscriptions[request.name] = subscription
        self.askBroker(subscription, since: request.since) { result in
            switch result {
            case .failure(let error):
                self.shard.logger.warning("broker refused a subscription", metadata: ["error": "\(error)"])
                self.remove(subscription)
                self.refuse(request.event, ProtocolError("Service unavailable.", code: "broker_unavailable"))
                request.done()
            case .success(let recovery): self.ask(request, subscription, recovery)
            }
        }
    }

    /// - Parameter then: called once, on the session's loop, perhaps before this returns.
    private func askBroker(
        _ subscription: Subscription,
        since: Position?,
        then: @escaping (Result<Recovery, BrokerError>) -> Void
    ) {
        let shard = self.shard
        let home = self.home
        let handle = self.name.handle
        let continuation = SessionContinuation<Result<Recovery, BrokerError>> { result in
            // The session has moved meanwhile, and its old loop no longer wants the topic: the new one does.
            guard case .failure = result, self.shard !== shard else { return then(result) }
            self.askBroker(subscription, since: since, then: then)
        }
        self.shard.broker.subscribe(
            subscription.name, shard: shard.index, since: since, history: subscription.service.history
        ) { result in
            if shard.loop.inEventLoop, shard.anySession(handle) != nil { return continuation.resume(result) }
            home.run { _ in continuation.resume(result) }
        }
    }

    private func ask(_ request: Request, _ subscription: Subscription, _ recovery: Recovery) {
        self.call(.beforeSubscribe, of: request.service, self.members(subscription)) { answer in
            if let refusal = answer.refusal(.refused) {
                self.remove(subscription)
                self.refuse(request.event, refusal)
                return request.done()
            }
            guard !subscription.isOverrun else { return self.undo(request, subscription) }
            self.goLive(request, subscription, recovery, answer)
            self.call(.subscribed, of: request.service, self.members(subscription)) { _ in request.done() }
        }
    }

    /// More came meanwhile than may wait. The service, which has agreed, is told that it came to nothing.
    private func undo(_ request: Request, _ subscription: Subscription) {
        self.remove(subscription)
        self.refuse(
            request.event,
            .limitExceeded(
                "What was published while the service was asked, in bytes,",
                limit: self.shard.limits.slowConsumerBytes, actual: subscription.waitingBytes
            )
        )
        self.call(.unsubscribed, of: request.service, self.members(subscription)) { _ in request.done() }
    }

    /// Reply, what was missed, what came meanwhile, then live.
    private func goLive(
        _ request: Request,
        _ subscription: Subscription,
        _ recovery: Recovery,
        _ answer: CallbackAnswer
    ) {
        let now = self.shard.now
        if let object = answer.object, let conditions = DeliveryConditions(object, filterFields: []) {
            subscription.theFilter.state.begin(conditions, now: now)
        }
        subscription.isPending = false
        self.confirm(request.event, extras: subscription.extras, data: answer.data) { reply in
            reply.position = recovery.position
            // A gap in the middle of what was kept is no recovery.
            let isWhole = recovery.outcome == .recovered && !recovery.publications.contains { $0.isGap }
            if request.since != nil { reply.recovered = isWhole }
        }
        switch recovery.outcome {
        case .fresh: break
        case .recovered: self.shard.metrics.recoveries += 1
        case .gap(let after, let next):
            self.shard.metrics.gaps += 1
            self.send(ServerEvent.gap(subscription: subscription.name, after: after, next: next))
        }
        // What came while the broker was asked is either in its answer or newer than it.
        let newer = (subscription.waiting ?? []).filter { $0.sequence > recovery.sequence }
        subscription.seen = recovery.publications.first.map { $0.sequence - 1 } ?? recovery.sequence
        subscription.told = subscription.seen
        subscription.liveFrom = recovery.sequence
        subscription.waitingBytes = newer.reduce(0) { $0 + $1.data.readableBytes }
        subscription.waiting = Deque(recovery.publications + newer)
        self.catchUp(subscription)
        self.startDuties(of: subscription, now: now)
    }

    // MARK: The end of a subscription

    /// Nothing reaches the session through the subscription any more.
    private func remove(_ subscription: Subscription) {
        self.subscriptions[subscription.name] = nil
        self.shard.leave(subscription)
    }

    func unsubscribe(_ event: ClientEvent, _ done: @escaping () -> Void) throws(ProtocolError) {
        let (name, service) = try self.target(of: event)
        guard let subscription = self.subscriptions[name.text] else { throw .notSubscribed }
        let event = service.settings.callbacks.isEmpty ? event : event.copied()
        self.call(.beforeUnsubscribe, of: service, self.members(subscription)) { answer in
            if let refusal = answer.refusal(.refused) {
                self.refuse(event, refusal)
                return done()
            }
            self.remove(subscription)
            self.confirm(event, extras: subscription.extras, data: answer.data)
            self.call(.unsubscribed, of: service, self.members(subscription)) { _ in done() }
        }
    }

    /// The service no longer allows a subscription (socketshark.md §5.5). Its callbacks are made, then the client is told.
    func revoke(_ subscription: Subscription, _ refusal: CallbackAnswer.Refusal, _ done: @escaping () -> Void) {
        // It may have ended by itself while this waited for its turn.
        guard self.subscriptions[subscription.name] === subscription else { return done() }
        let error = refusal.serviceError ?? JSONValue(refusal.error.text)
        self.shard.logger.info(
            "authorization expired",
            metadata: [
                "session": "\(self.name.handle)", "subscription": "\(subscription.name)", "error": "\(error.text)",
            ]
        )
        self.remove(subscription)
        self.call(.beforeUnsubscribe, of: subscription.service, self.members(subscription)) { before in
            self.call(.unsubscribed, of: subscription.service, self.members(subscription)) { _ in
                self.send(
                    ServerEvent.unsubscribe(
                        subscription.name, data: before.data, error: error, extras: subscription.extras
                    )
                )
                done()
            }
        }
    }

    /// The session is over: services are told of each subscription, the most recent first (socketshark.md §5.7).
    func sayFarewell(_ done: @escaping () -> Void) {
        let all = self.subscriptions.values.sorted { $0.ordinal > $1.ordinal }
        for subscription in all { self.remove(subscription) }
        self.sayFarewell(all.filter(\.service.hasFarewell)[...]) {
            done()
            self.shard.woundUp(self)
        }
    }

    private func sayFarewell(_ rest: ArraySlice<Subscription>, _ done: @escaping () -> Void) {
        guard let subscription = rest.first else { return done() }
        self.call(.beforeUnsubscribe, of: subscription.service, self.members(subscription)) { _ in
            self.call(.unsubscribed, of: subscription.service, self.members(subscription)) { _ in
                self.sayFarewell(rest.dropFirst(), done)
            }
        }
    }
}
