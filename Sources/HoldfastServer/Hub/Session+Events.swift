import HoldfastCore
import HoldfastProtocol
import NIOCore

/// What clients may ask of a session (socketshark.md §3 and §5, protocol.md).
extension Session {
    var configuration: Configuration { self.shard.configuration }

    /// Handles one event of the session's client.
    func receive(_ event: ClientEvent) {
        if event.isCounted, self.core.countReceived() {
            self.send(ServerEvent.ack(received: self.core.tellReceived()), isCounted: false)
        }
        do throws(ProtocolError) {
            switch event.name {
            case .auth: try self.enqueue(event, nil)
            case .subscribe, .unsubscribe, .message: try self.enqueue(event, try self.target(of: event).name.text)
            default:
                try self.answer(event)
                self.count(event, isSuccess: true)
            }
        } catch {
            self.refuse(event, error)
        }
    }

    private func enqueue(_ event: ClientEvent, _ lane: String?) throws(ProtocolError) {
        if let refusal = self.work.refusal(of: event, self.shard.limits) { throw refusal }
        self.submit(.event(event), lane)
    }

    /// Text that is no event.
    func receiveInvalid(_ text: ByteBuffer, _ error: ProtocolError) {
        self.shard.countInvalid(text)
        self.send(ServerEvent.reply(ServerEvent.Reply(event: nil, error: error), dialect: self.dialect))
    }

    func count(_ event: ClientEvent, isSuccess: Bool) {
        let label =
            switch event.name {
            // Names that a client makes up must not become labels.
            case .other: "unknown"
            case .hello where self.dialect == .plain, .probe where self.dialect == .plain: "unknown"
            case .ack where self.dialect == .plain, .pong where self.dialect == .plain: "unknown"
            default: event.name.text
            }
        self.shard.metrics.clientEvents[.init(event: label, isSuccess: isSuccess), default: 0] += 1
    }

    /// Events that wait for nobody.
    private func answer(_ event: ClientEvent) throws(ProtocolError) {
        let isNative = self.dialect == .native
        switch event.name {
        case .ping:
            try self.acknowledge(event)
            self.send(
                ServerEvent.pong(data: event.pingData, received: isNative ? self.core.tellReceived() : nil),
                isCounted: false
            )
        case .hello where isNative: throw .alreadyOpen
        case .probe where isNative: self.send(ServerEvent.probe, isCounted: false)
        case .ack where isNative, .pong where isNative: try self.acknowledge(event)
        default: throw .unknownEvent
        }
    }

    /// The client says how many events it has had.
    private func acknowledge(_ event: ClientEvent) throws(ProtocolError) {
        guard self.dialect == .native, let received = try event.received() else { return }
        guard self.core.outbox.acknowledge(received) else { throw .badCount }
    }

    /// Events that may take time, in their turn.
    /// - Parameter done: called once, when the next event of the same topic may follow.
    func perform(_ event: ClientEvent, _ done: @escaping () -> Void) {
        do throws(ProtocolError) {
            _ = try event.id()
            switch event.name {
            case .auth: try self.authenticate(event, done)
            case .subscribe: try self.subscribe(event, done)
            case .unsubscribe: try self.unsubscribe(event, done)
            case .message: try self.message(event, done)
            default: throw .unknownEvent
            }
        } catch {
            self.refuse(event, error)
            done()
        }
    }

    // MARK: Replies

    /// Answers an event that could not be done.
    func refuse(_ event: ClientEvent, _ error: ProtocolError) {
        self.refuse(event, CallbackAnswer.Refusal(error))
    }

    func refuse(_ event: ClientEvent, _ refusal: CallbackAnswer.Refusal) {
        self.count(event, isSuccess: false)
        var reply = ServerEvent.Reply(event: event.name.text, error: refusal.error)
        reply.serviceError = refusal.serviceError
        switch event.name {
        case .subscribe, .message, .unsubscribe:
            let value = event.object["subscription"].flatMap { $0.isFalsy || $0.kind != .string ? nil : $0 }
            reply.subscription = value
            reply.extras = self.extras(for: event, name: value?.string)
            reply.data = refusal.data
        default: break
        }
        if refusal.error != .badID { reply.id = try? event.id() }
        // The reply carries the event's own name, so it counts exactly if the event does.
        self.send(ServerEvent.reply(reply, dialect: self.dialect), isCounted: event.isCounted)
        guard refusal.error == .badAnswer, self.dialect == .plain else { return }
        // As SocketShark does (socketshark.md §3.5). A native session outlives such a thing.
        self.flushNow()
        self.end(.internalError, reason: "a service gave an answer that cannot be read")
    }

    /// Says that an event was done.
    /// - Parameter extras: of the subscription that it was about.
    func confirm(
        _ event: ClientEvent,
        extras: [JSONObject.Member] = [],
        data: JSONValue? = nil,
        _ more: (inout ServerEvent.Reply) -> Void = { _ in }
    ) {
        self.count(event, isSuccess: true)
        var reply = ServerEvent.Reply(event: event.name.text)
        reply.subscription = event.object["subscription"]
        reply.extras = extras
        reply.data = data
        reply.id = try? event.id()
        more(&reply)
        self.send(ServerEvent.reply(reply, dialect: self.dialect))
    }

    /// The extra fields to echo: those given at subscribe time if the name is active, else those of this event
    /// (socketshark.md §3.3).
    private func extras(for event: ClientEvent, name: String?) -> [JSONObject.Member] {
        guard let name else { return [] }
        if let subscription = self.subscriptions[name], !subscription.isPending { return subscription.extras }
        let scalars = name.unicodeScalars
        guard let dot = scalars.firstIndex(of: "."),
            let service = self.shard.gateway.service(String(scalars[..<dot]))
        else { return [] }
        return self.extras(of: event, service)
    }

    /// What these say belongs to the native protocol: native clients cannot give extra fields of these names.
    private static let nativeMembers: Set<String> = [
        "id", "since", "code", "limit", "actual", "position", "recovered", "offset", "after",
    ]

    func extras(of event: ClientEvent, _ service: ServiceRules) -> [JSONObject.Member] {
        service.settings.extraFields.compactMap { field in
            if self.dialect == .native, Self.nativeMembers.contains(field) { return nil }
            return event.object[field].map { value in
                // A copy: the value must not keep the network's buffer alive for as long as the subscription lives.
                JSONObject.Member(name: field, value: value.copied())
            }
        }
    }

    /// The name and its service, checked in SocketShark's order (socketshark.md §5.1).
    func target(of event: ClientEvent) throws(ProtocolError) -> (name: SubscriptionName, service: ServiceRules) {
        guard let text = event.object["subscription"]?.string else { throw .badSubscription }
        let name = try SubscriptionName(text, limit: self.shard.limits.nameBytes)
        guard let service = self.shard.gateway.service(name.service) else { throw .unknownService }
        return (name, service)
    }

    // MARK: message

    private func message(_ event: ClientEvent, _ done: @escaping () -> Void) throws(ProtocolError) {
        let (name, service) = try self.target(of: event)
        guard let subscription = self.subscriptions[name.text] else { throw .notSubscribed }
        let data = event.object["data"] ?? .null
        let answered: (CallbackAnswer) -> Void = { answer in
            defer { done() }
            if let refusal = answer.refusal(.refused) { return self.refuse(event, refusal) }
            // Without data SocketShark says nothing; a native client that gave an id is told that it has arrived.
            let isAwaited = self.dialect == .native && event.object["id"] != nil
            guard answer.object?["data"] != nil || isAwaited else { return self.count(event, isSuccess: true) }
            self.confirm(event, extras: subscription.extras, data: answer.data)
        }
        guard let url = service.url(.message) else { return answered(.notConfigured) }
        var members = self.members(subscription, data: data)
        guard self.dialect == .native, let id = event.object["id"] else {
            return self.call(.message, url, members, then: answered)
        }
        members.removeAll { $0.name == "message_id" }
        let key = MessageWindow.Key(id: id, members)
        members.append(JSONObject.Member(name: "message_id", value: id))
        guard id.kind == .string, id.raw.readableBytes >= MessageWindow.shortestID + 2 else {
            return self.call(.message, url, members, then: answered)
        }
        self.callOnce(url, members, key, then: answered)
    }

    /// Asks the service, unless it was asked about this message before.
    private func callOnce(
        _ url: ServiceURL,
        _ members: [JSONObject.Member],
        _ key: MessageWindow.Key,
        then: @escaping (CallbackAnswer) -> Void
    ) {
        let window = self.shard.gateway.messageWindow
        let continuation = SessionContinuation(resume: then)
        let home = self.home
        let loop = self.shard.loop
        let entrance = window.enter(key, now: loop.now) { answer in home.run { _ in continuation.resume(answer) } }
        switch entrance {
        case .answered(let answer): then(answer)
        case .underWay: break
        case .new: self.call(.message, url, members, answered: { window.finish(key, $0, now: loop.now) }, then: then)
        }
    }
}
