import HoldfastBroker
import HoldfastCore
import HoldfastProtocol
import NIOCore

/// Who the client is, whether it still may, and that it is still there (socketshark.md §4, §5.5, §5.6).
extension Session {
    var isAuthenticated: Bool { self.identity?.fields.isEmpty == false }

    /// `{"event":"auth","method":"ticket","ticket":…}`
    func authenticate(_ event: ClientEvent, _ done: @escaping () -> Void) throws(ProtocolError) {
        let method = event.object["method"] ?? JSONValue("ticket")
        guard method.string == "ticket", let settings = self.configuration.authentication.ticket else {
            throw .unsupportedMethod
        }
        guard let ticket = event.object["ticket"], !ticket.isFalsy else { throw .noTicket }
        let event = event.copied()
        let body = [JSONObject.Member(name: "ticket", value: ticket)]
        self.call(.validation, settings.validationURL, body) { answer in
            defer { done() }
            if let refusal = answer.refusal(.authenticationFailed) { return self.refuse(event, refusal) }
            let fields = answer.members(settings.fields)
            guard fields.count == settings.fields.count else { return self.refuse(event, .badAnswer) }
            self.identity = Identity(fields)
            self.confirm(event) { $0.subscription = nil }
        }
    }

    // MARK: What is done from time to time

    func startDuties(of subscription: Subscription, now: Instant) {
        let settings = subscription.service.settings
        if subscription.service.url(.authorizer) != nil, settings.renewalPeriod != nil {
            self.planRenewal(of: subscription, now: now)
        }
        if subscription.service.url(.heartbeat) != nil, let period = settings.heartbeatPeriod {
            self.setDuty(of: subscription) { $0.heartbeatAt = now + .seconds(self.randomShare() * period) }
        }
    }

    private func randomShare() -> Double {
        var random = RandomSource(source: self.shard.gateway.random)
        return .random(in: 0..<1, using: &random)
    }

    private func setDuty(of subscription: Subscription, _ change: (Subscription.Duties) -> Void) {
        change(subscription.theDuties)
        self.shard.setAlarm(subscription)
    }

    private func planRenewal(of subscription: Subscription, now: Instant) {
        let settings = subscription.service.settings
        guard let period = settings.renewalPeriod else { return }
        let wait = period - self.randomShare() * settings.renewalJitter
        self.setDuty(of: subscription) { $0.renewAt = now + .seconds(wait) }
    }

    /// A time has come that ``Subscription/nextAlarm`` gave.
    /// - Parameter encodings: of publications that others were sent at the same moment.
    func alarmFired(_ subscription: Subscription, now: Instant, _ encodings: inout [ObjectIdentifier: Encodings]) {
        let released = subscription.filter?.state.release(now: now) ?? []
        for (index, publication) in released.enumerated() {
            let key = ObjectIdentifier(publication)
            var shared = encodings[key] ?? Encodings(publication, sentAt: self.shard.sentAt)
            self.send(&shared, subscription, isLast: index == released.count - 1, now: now)
            encodings[key] = shared
        }
        if let time = subscription.duties?.renewAt, time <= now {
            subscription.duties?.renewAt = nil
            self.renew(subscription)
        }
        if let time = subscription.duties?.heartbeatAt, time <= now {
            subscription.duties?.heartbeatAt = nil
            self.beat(subscription)
        }
        self.shard.setAlarm(subscription)
    }

    private func isCurrent(_ subscription: Subscription) -> Bool {
        self.subscriptions[subscription.name] === subscription && self.core.state != .ended
    }

    private func renew(_ subscription: Subscription) {
        let service = subscription.service
        self.call(.authorizer, of: service, self.members(subscription)) { answer in
            guard self.isCurrent(subscription) else { return }
            if let refusal = answer.refusal(.unauthorized) {
                return self.refused(subscription, refusal, isUnanswered: answer.isUnavailable)
            }
            subscription.duties?.unansweredSince = nil
            let fields = answer.members(service.settings.authorizerFields)
            guard !fields.isEqual(to: subscription.duties?.authorizerFields ?? []) else {
                return self.planRenewal(of: subscription, now: self.shard.now)
            }
            self.setDuty(of: subscription) { $0.authorizerFields = fields }
            self.call(.authorizationChange, of: service, self.members(subscription)) { answer in
                guard self.isCurrent(subscription) else { return }
                if let refusal = answer.refusal(.refused) {
                    return self.submit(.revoke(subscription, refusal), subscription.name)
                }
                self.planRenewal(of: subscription, now: self.shard.now)
            }
        }
    }

    /// - Parameter isUnanswered: nobody said no; the authorizer could not be asked.
    private func refused(_ subscription: Subscription, _ refusal: CallbackAnswer.Refusal, isUnanswered: Bool) {
        let now = self.shard.now
        let since = subscription.duties?.unansweredSince ?? now
        let end = since + .seconds(subscription.service.settings.authorizationGrace)
        if isUnanswered, now < end {
            subscription.duties?.unansweredSince = since
            self.planRenewal(of: subscription, now: now)
            // Asked once more when the grace is over, at the latest.
            return self.setDuty(of: subscription) { $0.renewAt = min($0.renewAt ?? end, end) }
        }
        self.submit(.revoke(subscription, refusal), subscription.name)
    }

    private func beat(_ subscription: Subscription) {
        self.call(.heartbeat, of: subscription.service, self.members(subscription)) { answer in
            if let refusal = answer.refusal(.refused) {
                let error = refusal.serviceError?.text ?? refusal.error.text
                self.shard.logger.warning(
                    "error sending heartbeat to service",
                    metadata: ["subscription": "\(subscription.name)", "error": "\(error)"]
                )
            }
            guard self.isCurrent(subscription), let period = subscription.service.settings.heartbeatPeriod else {
                return
            }
            self.setDuty(of: subscription) { $0.heartbeatAt = self.shard.now + .seconds(period) }
        }
    }
}

extension [JSONObject.Member] {
    /// Whether names and values are the same, as Python compares them.
    fileprivate func isEqual(to other: [JSONObject.Member]) -> Bool {
        self.count == other.count
            && zip(self, other).allSatisfy {
                $0.name == $1.name && ComparableValue($0.value) == ComparableValue($1.value)
            }
    }
}
