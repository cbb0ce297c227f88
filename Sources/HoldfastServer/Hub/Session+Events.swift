import DequeModule
import HoldfastBroker
import HoldfastCore
import HoldfastProtocol
import NIOCore

/// What clients may ask of a session (socketshark.md §3 and §5, protocol.md).
extension Session {
    private var configuration: Configuration { self.shard.configuration }

    /// Handles one event of the session's client.
    func receive(_ event: ClientEvent) {
        if event.isCounted, self.core.countReceived() {
            self.send(ServerEvent.ack(received: self.core.tellReceived()), isCounted: false)
        }
        do throws(ProtocolError) {
            try self.handle(event)
            self.count(event, isSuccess: true)
        } catch {
            self.count(event, isSuccess: false)
            self.refuse(event, error)
        }
    }

    private func count(_ event: ClientEvent, isSuccess: Bool) {
        let label: String
        // Names that a client makes up must not become labels.
        if case .other = event.name { label = "unknown" } else { label = event.name.text }
        self.shard.metrics.clientEvents[.init(event: label, isSuccess: isSuccess), default: 0] += 1
    }

    /// Text that is no event.
    func receiveInvalid(_ error: ProtocolError) {
        self.shard.metrics.clientEvents[.init(event: "invalid", isSuccess: false), default: 0] += 1
        self.send(ServerEvent.reply(ServerEvent.Reply(event: nil, error: error), dialect: self.dialect))
    }

    private func handle(_ event: ClientEvent) throws(ProtocolError) {
        let isNative = self.dialect == .native
        switch event.name {
        case .ping:
            try self.acknowledge(event)
            self.send(
                ServerEvent.pong(data: event.pingData, received: isNative ? self.core.tellReceived() : nil),
                isCounted: false
            )
        case .subscribe: try self.subscribe(event)
        case .unsubscribe: try self.unsubscribe(event)
        case .message: try self.message(event)
        case .auth:
            // No method is configured: authentication comes with the services' callbacks.
            throw .unsupportedMethod
        case .hello where isNative: throw .alreadyOpen
        case .probe where isNative: self.send(ServerEvent.probe, isCounted: false)
        case .ack where isNative: try self.acknowledge(event)
        case .pong where isNative: try self.acknowledge(event)
        case .hello, .probe, .ack, .pong, .other: throw .unknownEvent
        }
    }

    /// The client says how many events it has had.
    private func acknowledge(_ event: ClientEvent) throws(ProtocolError) {
        guard self.dialect == .native, let received = try event.received() else { return }
        guard self.core.outbox.acknowledge(received) else { throw .badCount }
    }

    /// Answers an event that could not be done.
    private func refuse(_ event: ClientEvent, _ error: ProtocolError) {
        var reply = ServerEvent.Reply(event: event.name.text, error: error)
        switch event.name {
        case .subscribe, .message, .unsubscribe:
            let value = event.object["subscription"].flatMap { $0.isFalsy || $0.kind != .string ? nil : $0 }
            reply.subscription = value
            reply.extras = self.extras(for: event, name: value?.string)
        default: break
        }
        if error != .badID { reply.id = try? event.id() }
        // The reply carries the event's own name, so it counts exactly if the event does.
        self.send(ServerEvent.reply(reply, dialect: self.dialect), isCounted: event.isCounted)
    }

    /// The extra fields to echo: those given at subscribe time if the name is active, else those of this event
    /// (socketshark.md §3.3).
    private func extras(for event: ClientEvent, name: String?) -> [JSONObject.Member] {
        guard let name else { return [] }
        if let subscription = self.subscriptions[name] { return subscription.extras }
        guard let dot = name.firstIndex(of: "."), let service = self.configuration.service(String(name[..<dot])) else {
            return []
        }
        return self.extras(of: event, service)
    }

    private func extras(of event: ClientEvent, _ service: Configuration.Service) -> [JSONObject.Member] {
        service.extraFields.compactMap { field in
            event.object[field].map { value in
                // A copy: the value must not keep the network's buffer alive for as long as the subscription lives.
                JSONObject.Member(name: field, value: value.copied())
            }
        }
    }

    /// The name and its service, checked in SocketShark's order (socketshark.md §5.1).
    private func name(
        of event: ClientEvent
    ) throws(ProtocolError) -> (name: SubscriptionName, raw: JSONValue, service: Configuration.Service) {
        guard let raw = event.object["subscription"], let text = raw.string else { throw .badSubscription }
        let name = try SubscriptionName(text, limit: self.shard.limits.nameBytes)
        guard let service = self.configuration.service(name.service) else { throw .unknownService }
        return (name, raw, service)
    }

    private func reply(_ event: ClientEvent, _ raw: JSONValue, extras: [JSONObject.Member]) -> ServerEvent.Reply {
        var reply = ServerEvent.Reply(event: event.name.text)
        reply.subscription = raw
        reply.extras = extras
        reply.id = try? event.id()
        return reply
    }

    // MARK: subscribe

    private func subscribe(_ event: ClientEvent) throws(ProtocolError) {
        let (name, raw, service) = try self.name(of: event)
        _ = try event.id()
        // Authentication comes with the services' callbacks; until then nobody is authenticated.
        guard !service.requireAuthentication else { throw .authenticationRequired }
        guard self.subscriptions[name.text] == nil else { throw .alreadySubscribed }
        let limit = self.shard.limits.subscriptions
        guard self.subscriptions.count < limit else {
            throw .limitExceeded("The number of subscriptions", limit: limit, actual: self.subscriptions.count + 1)
        }
        var since: Position?
        if self.dialect == .native, let value = event.object["since"], value.kind != .null {
            since = Position(value, limits: self.shard.limits.json)
            guard since != nil else { throw .badSince }
        }
        let topic = self.shard.topic(name.text)
        let subscription = Subscription(topic: topic, session: self, extras: self.extras(of: event, service))
        topic.add(subscription)
        self.subscriptions[name.text] = subscription
        let reply = self.reply(event, raw.copied(), extras: subscription.extras)
        self.shard.subscribe(subscription, since: since, history: self.configuration.history(of: service)) { result in
            guard let session = subscription.session, subscription.index >= 0 else { return }
            session.finish(subscription, result, asked: since != nil, reply: reply)
        }
    }

    /// The broker has answered: reply, what was missed, what came meanwhile, then live.
    private func finish(
        _ subscription: Subscription,
        _ result: Result<Recovery, BrokerError>,
        asked: Bool,
        reply: ServerEvent.Reply
    ) {
        var reply = reply
        let recovery: Recovery
        switch result {
        case .failure(let error):
            self.shard.leave(subscription)
            self.subscriptions[subscription.topic.name] = nil
            reply.error = ProtocolError("Service unavailable.", code: "broker_unavailable")
            self.shard.logger.warning("broker refused a subscription", metadata: ["error": "\(error)"])
            return self.send(ServerEvent.reply(reply, dialect: self.dialect))
        case .success(let success): recovery = success
        }
        reply.position = recovery.position
        if asked { reply.recovered = recovery.outcome == .recovered }
        self.send(ServerEvent.reply(reply, dialect: self.dialect))
        switch recovery.outcome {
        case .fresh: break
        case .recovered: self.shard.metrics.recoveries += 1
        case .gap(let after, let next):
            self.shard.metrics.gaps += 1
            self.send(ServerEvent.gap(subscription: subscription.topic.name, after: after, next: next))
        }
        // What came while the broker was asked is either in its answer or newer than it.
        let newer = (subscription.waiting ?? []).filter { $0.sequence > recovery.sequence }
        subscription.seen = recovery.publications.first.map { $0.sequence - 1 } ?? recovery.sequence
        subscription.waitingBytes = newer.reduce(0) { $0 + $1.data.readableBytes }
        subscription.waiting = Deque(recovery.publications + newer)
        self.catchUp(subscription)
    }

    // MARK: unsubscribe, message

    private func unsubscribe(_ event: ClientEvent) throws(ProtocolError) {
        let (name, raw, _) = try self.name(of: event)
        _ = try event.id()
        guard let subscription = self.subscriptions.removeValue(forKey: name.text) else { throw .notSubscribed }
        self.shard.leave(subscription)
        self.send(
            ServerEvent.reply(self.reply(event, raw, extras: subscription.extras), dialect: self.dialect)
        )
    }

    private func message(_ event: ClientEvent) throws(ProtocolError) {
        let (name, raw, _) = try self.name(of: event)
        let id = try event.id()
        guard let subscription = self.subscriptions[name.text] else { throw .notSubscribed }
        // No service has an on_message callback yet: SocketShark accepts such a message without a word, and a native client
        // that gave an id is told that it has arrived.
        guard self.dialect == .native, id != nil else { return }
        self.send(
            ServerEvent.reply(self.reply(event, raw, extras: subscription.extras), dialect: self.dialect)
        )
    }
}
