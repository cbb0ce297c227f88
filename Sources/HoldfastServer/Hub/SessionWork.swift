import DequeModule
import HoldfastBroker
import HoldfastCore
import HoldfastProtocol
import NIOCore

/// What a session has under way that takes time: callbacks, and events that wait behind them.
///
/// Events of one topic are done in order, those of different topics side by side; `auth` is done alone. A `ping` is none of
/// these: it never waits.
final class SessionWork {
    enum Work {
        case event(ClientEvent)
        /// The service no longer allows it.
        case revoke(Subscription, CallbackAnswer.Refusal)
        /// The session has ended: services are told of each subscription.
        case windUp
    }

    private typealias Item = (work: Work, lane: String?)

    private var lanes: Lanes<Item>
    /// Of events under way and waiting.
    private var bytes = 0
    private var bytesUnderWay: [ExactName?: Int] = [:]
    /// What may start. A list instead of a call, since a thousand events may become ready one out of the other.
    private var ready = Deque<Item>()
    private var isStarting = false

    /// - Parameter topicsAtOnce: how many topics may have an event under way.
    init(topicsAtOnce: Int) {
        self.lanes = Lanes(limit: topicsAtOnce)
    }

    /// Why another event may not be taken; `nil` if it may.
    func refusal(of event: ClientEvent, _ limits: Configuration.Limits) -> ProtocolError? {
        guard self.lanes.count > 0 else { return nil }
        if self.lanes.count >= limits.waitingEvents {
            return .limitExceeded(
                "The number of events that wait for services", limit: limits.waitingEvents,
                actual: self.lanes.count + 1
            )
        }
        let bytes = self.bytes + event.byteCount
        if bytes > limits.waitingBytes {
            return .limitExceeded(
                "The bytes of events that wait for services", limit: limits.waitingBytes, actual: bytes
            )
        }
        return nil
    }

    /// - Parameter lane: `nil` for what is done alone.
    func submit(_ work: Work, _ lane: String?, start: (Work, String?) -> Void) {
        var item = (work: work, lane: lane)
        if !self.lanes.isIdle, case .event(let event) = work {
            item.work = .event(event.copied())
        }
        self.bytes += item.work.byteCount
        guard self.lanes.submit(item, lane) else { return }
        self.begin(item)
        self.startReady(start)
    }

    func finished(_ lane: String?, start: (Work, String?) -> Void) {
        self.bytes -= self.bytesUnderWay.removeValue(forKey: lane.map(ExactName.init)) ?? 0
        for item in self.lanes.finished(lane) { self.begin(item) }
        self.startReady(start)
    }

    private func begin(_ item: Item) {
        self.bytesUnderWay[item.lane.map(ExactName.init)] = item.work.byteCount
        self.ready.append(item)
    }

    private func startReady(_ start: (Work, String?) -> Void) {
        guard !self.isStarting else { return }
        self.isStarting = true
        defer { self.isStarting = false }
        while let item = self.ready.popFirst() { start(item.work, item.lane) }
    }
}

extension SessionWork.Work {
    fileprivate var byteCount: Int {
        if case .event(let event) = self { event.byteCount } else { 0 }
    }
}

/// Something to go on with once an answer is there, on whatever loop the session is then.
///
/// `@unchecked Sendable`: made on the session's loop and used on the session's loop. Between two loops, the session and
/// everything of it is handed over with a hop from the one to the other.
struct SessionContinuation<Answer>: @unchecked Sendable {
    let resume: (Answer) -> Void
}

extension Session {
    // MARK: Work in order

    func submit(_ work: SessionWork.Work, _ lane: String?) {
        self.work.submit(work, lane) { self.start($0, $1) }
    }

    private func start(_ work: SessionWork.Work, _ lane: String?) {
        let done = { self.work.finished(lane) { self.start($0, $1) } }
        switch work {
        case .event(let event): self.perform(event, done)
        case .revoke(let subscription, let refusal): self.revoke(subscription, refusal, done)
        case .windUp: self.sayFarewell(done)
        }
    }

    // MARK: Asking

    /// Asks the service, if it wants to be asked.
    /// - Parameters:
    ///   - body: members of the request.
    ///   - then: called once, on the session's loop, perhaps before this returns.
    func call(
        _ callback: Callback,
        of service: ServiceRules,
        _ body: @autoclosure () -> [JSONObject.Member],
        then: @escaping (CallbackAnswer) -> Void
    ) {
        guard let url = service.url(callback) else { return then(.notConfigured) }
        self.call(callback, url, body(), then: then)
    }

    /// - Parameter answered: called on any thread as soon as the service has answered, also where the session is gone by then.
    func call(
        _ callback: Callback,
        _ url: ServiceURL,
        _ body: [JSONObject.Member],
        answered: @escaping @Sendable (CallbackAnswer) -> Void = { _ in },
        then: @escaping (CallbackAnswer) -> Void
    ) {
        guard let caller = self.shard.gateway.caller else {
            answered(.unavailable)
            return then(.unavailable)
        }
        let text = JSONWriter.object { json in
            for member in body { json.member(member.name, member.value) }
        }
        let continuation = SessionContinuation(resume: then)
        let home = self.home
        caller.call(callback, url, text) { answer in
            answered(answer)
            home.run { _ in continuation.resume(answer) }
        }
    }

    /// What every callback of a subscription is told (socketshark.md §6.2). Later ones win, so that a client cannot pass for
    /// another by an extra field.
    func members(
        _ subscription: String,
        extras: [JSONObject.Member],
        authorizerFields: [JSONObject.Member],
        data: JSONValue? = nil
    ) -> [JSONObject.Member] {
        var members = [JSONObject.Member(name: "subscription", value: JSONValue(subscription))]
        var all = extras + authorizerFields + (self.identity?.fields ?? [])
        if let data { all.append(JSONObject.Member(name: "data", value: data)) }
        for member in all {
            if let index = members.firstIndex(where: { $0.name == member.name }) {
                members[index] = member
            } else {
                members.append(member)
            }
        }
        return members
    }

    func members(_ subscription: Subscription, data: JSONValue? = nil) -> [JSONObject.Member] {
        self.members(
            subscription.name, extras: subscription.extras,
            authorizerFields: subscription.duties?.authorizerFields ?? [], data: data
        )
    }
}
