import HoldfastProtocol
import NIOCore

/// What the app wants.
extension ConnectionMachine {
    mutating func connect() {
        switch self.state {
        case .idle, .closed:
            self.backoff.failures = 0
            self.hasRefreshed = false
            self.mustReauthenticate = false
            if self.isOffline {
                self.attemptAt = self.now
                return self.become(.suspended, .offline)
            }
            self.become(.connecting, .connect)
            self.attempt()
        case .connecting, .connected, .suspended, .reconnecting:
            // The app knows better than the platform's idea of being offline.
            self.isOffline = false
            self.doubt(.connect)
        }
    }

    mutating func subscribe(id: String, _ subscription: String, since: Position?, fields: [JSONObject.Member]) {
        self.lastSerial += 1
        var topic = ClientTopic(
            id: id,
            name: subscription,
            fields: fields,
            order: self.topics[subscription]?.order ?? self.lastSerial,
            position: since
        )
        if self.isCounting {
            let command = self.subscribeCommand(&topic)
            guard self.submit(command) else { return }
        }
        self.topics[subscription] = topic
    }

    mutating func subscribeCommand(_ topic: inout ClientTopic) -> ClientCommand {
        topic.isActive = false
        topic.since = topic.position
        return self.command(.subscribe, id: topic.id, subscription: topic.name, fields: topic.fields) { [topic] json in
            if let since = topic.since { json.member("since", since) }
        }
    }

    mutating func unsubscribe(id: String, _ subscription: String) {
        var command = self.command(.unsubscribe, id: id, subscription: subscription)
        command.topicID = self.topics[subscription]?.id
        if self.isCounting {
            _ = self.submit(command)
        } else {
            // Without a session there is nobody to ask.
            self.ended(command)
        }
    }

    mutating func message(id: String, _ subscription: String, data: ByteBuffer, fields: [JSONObject.Member]) {
        let command = self.command(.message, id: id, subscription: subscription, fields: fields) { json in
            json.member("data", raw: data)
        }
        guard self.state != .closed else { return self.fail(command, code: "closed", "The connection is closed.") }
        _ = self.submit(command)
    }

    /// Writes a command. `fields` cannot replace what the protocol itself needs.
    mutating func command(
        _ kind: ClientCommand.Kind,
        id: String,
        subscription: String,
        fields: [JSONObject.Member] = [],
        _ more: (inout JSONWriter) -> Void = { _ in }
    ) -> ClientCommand {
        let text = JSONWriter.object { json in
            for field in fields where !["event", "subscription", "since", "data", "id"].contains(field.name) {
                json.member(field.name, field.value)
            }
            json.member("event", kind.rawValue)
            json.member("subscription", subscription)
            more(&json)
            json.member("id", id)
        }
        self.lastSerial += 1
        return ClientCommand(serial: self.lastSerial, kind: kind, id: id, subscription: subscription, text: text)
    }

    mutating func authCommand(_ text: ByteBuffer) -> ClientCommand {
        self.lastSerial += 1
        return ClientCommand(serial: self.lastSerial, kind: .auth, id: nil, subscription: "", text: text)
    }

    /// An event counts from the moment that it belongs to a session, or to a hello whose session has no name yet.
    var isCounting: Bool { self.session != nil || self.main?.phase == .hello }

    /// - Returns: `false` if it has failed at once.
    mutating func submit(_ command: ClientCommand) -> Bool {
        guard self.outbox.hasRoom(for: command) else {
            let limit = self.outbox.limit
            let actual = self.outbox.bytes + command.bytes
            self.fail(
                command, code: "queue_full", "The queue holds at most \(limit) bytes, this would make it \(actual).",
                limit: limit, actual: actual
            )
            return false
        }
        self.outbox.awaitAnswer(to: command)
        if self.isCounting { self.post(command) }
        // Half of the room is taken by what the server may have counted long ago: ask.
        if self.main?.phase == .live, self.outbox.bytes * 2 > self.outbox.limit, self.liveness.askedAt == nil {
            self.sendPing()
        }
        return true
    }

    mutating func post(_ command: ClientCommand) {
        self.outbox.post(command)
        // Behind a resuming hello nothing is sent before the reply: we do not know yet what to repeat.
        guard let main = self.main, main.phase == .live || (main.phase == .hello && !main.isResuming) else { return }
        self.write(command)
    }

    /// - Parameter number: in the session; the last one's if absent.
    mutating func write(_ command: ClientCommand, number: UInt64? = nil) {
        guard let main = self.main else { return }
        let number = main.transport == .websocket ? nil : number ?? self.outbox.posted
        self.act(.send(line: main.id, text: command.text, number: number))
        if self.countAt == nil { self.wantCount() }
    }

    /// Answers in the server's place.
    mutating func fail(_ command: ClientCommand, code: String, _ text: String, limit: Int? = nil, actual: Int? = nil) {
        let event = WireEvent { json in
            json.member("event", command.kind.rawValue)
            json.member("status", "error")
            json.member("code", code)
            json.member("error", text)
            if let limit { json.member("limit", limit) }
            if let actual { json.member("actual", actual) }
        }
        switch command.kind {
        case .subscribe: self.tell(.unsubscribed(subscription: command.subscription, event: event))
        case .unsubscribe, .message, .auth: self.tell(.reply(id: command.id ?? "", event: event))
        }
    }

    mutating func drop(_ subscription: String, _ event: WireEvent) {
        self.topics[subscription] = nil
        self.tell(.unsubscribed(subscription: subscription, event: event))
    }

    /// An unsubscribe has done its work.
    /// - Parameter event: the reply; `nil`: it needed no server.
    mutating func ended(_ command: ClientCommand, _ event: WireEvent? = nil) {
        let event =
            event
            ?? WireEvent { json in
                json.member("event", "unsubscribe")
                json.member("subscription", command.subscription)
                json.member("status", "ok")
            }
        // The app may have subscribed anew meanwhile: that is another topic.
        if let topic = self.topics[command.subscription], topic.id == command.topicID { self.drop(topic.name, event) }
        self.tell(.reply(id: command.id ?? "", event: event))
    }

    /// The session is gone: all that it had to do is done or void, but for the messages.
    /// - Returns: these.
    mutating func withdraw() -> [ClientCommand] {
        var messages: [ClientCommand] = []
        for command in self.outbox.restart() {
            switch command.kind {
            case .message:
                messages.append(command)
            case .unsubscribe:
                self.forget(command)
                self.ended(command)
            case .subscribe, .auth:
                self.forget(command)
            }
        }
        return messages
    }

    /// Nobody waits for its reply any more.
    mutating func forget(_ command: ClientCommand) {
        guard let id = command.id else { return }
        _ = self.outbox.answer(id)
    }
}
