import DequeModule
import HoldfastBroker
import HoldfastCore
import HoldfastProtocol

/// The subscribers that one event loop has for one topic.
final class Topic {
    let name: String
    private(set) var subscribers: ContiguousArray<Subscription> = []
    /// Whether a subscriber could come back and ask for what it missed, which plain clients cannot.
    private(set) var hasHadNative = false

    init(name: String) {
        self.name = name
    }

    func add(_ subscription: Subscription) {
        subscription.index = self.subscribers.count
        // A place without a session is held for one that moves, which only native ones do.
        if subscription.session?.dialect != .plain { self.hasHadNative = true }
        self.subscribers.append(subscription)
    }

    /// O(1): the last subscriber takes the place of the one that leaves. Order among subscribers means nothing.
    func remove(_ subscription: Subscription) {
        let last = self.subscribers.removeLast()
        if last !== subscription {
            last.index = subscription.index
            self.subscribers[subscription.index] = last
        }
        subscription.index = -1
    }
}

/// One session's interest in one topic. Moves with its session from loop to loop.
final class Subscription {
    /// That of the loop which the session is on.
    var topic: Topic
    /// `nil` while a place is held for a session that moves to this loop, and after the end.
    var session: Session?
    var index = -1
    /// What the session is still to be sent before it is live: what came before the broker answered (socketshark.md §5.2),
    /// and what it missed, handed over as fast as its transport takes it. `nil` once the subscription is live.
    var waiting: Deque<Publication>? = []
    /// Bytes of publications that came while others waited. They count as a slow consumer's; what was missed does not.
    var waitingBytes = 0
    /// Sequence up to which `waiting` holds what was missed.
    var liveFrom: UInt64 = 0
    /// Sequence of the last publication that the session got or does not need.
    var seen: UInt64 = 0
    /// Sequence of the last publication that a native client was told of: less than `seen` where filters have kept some from it.
    var told: UInt64 = 0
    /// Whether the client has no reply to its `subscribe` yet.
    var isPending = true
    /// Whether more came while the subscription was pending than may wait.
    var isOverrun = false
    let service: ServiceRules
    /// The service's extra fields as the client gave them, in the order of the configuration.
    let extras: [JSONObject.Member]
    /// Those of them that messages are compared with.
    let extraValues: [String: ComparableValue]
    /// Order and throttle; made when the first message needs them.
    private(set) var filter: Filter?
    /// Place among the session's subscriptions, by age.
    var ordinal: UInt64 = 0
    private(set) var duties: Duties?
    /// When ``Alarms`` wakes it.
    var alarm: Alarm?

    // Objects, so that a subscription without is small, and that a delivery does not copy them to see whether they are there.

    final class Filter {
        // Touched by one thread, by functions that never call back.
        @exclusivity(unchecked) var state: DeliveryFilter<Publication>

        init(limit: Int) { self.state = DeliveryFilter(limit: limit) }
    }

    /// What the gateway does for a subscription from time to time.
    final class Duties {
        /// What the authorizer gave for later callbacks.
        var authorizerFields: [JSONObject.Member] = []
        var renewAt: Instant?
        /// Since when the authorizer has not answered.
        var unansweredSince: Instant?
        var heartbeatAt: Instant?

        var next: Instant? { [self.renewAt, self.heartbeatAt].compactMap { $0 }.min() }
    }

    var name: String { self.topic.name }

    init(topic: Topic, session: Session?, service: ServiceRules, extras: [JSONObject.Member]) {
        self.topic = topic
        self.session = session
        self.service = service
        self.extras = extras
        var values: [String: ComparableValue] = [:]
        for extra in extras where service.settings.filterFields.contains(extra.name) {
            values[extra.name] = ComparableValue(extra.value)
        }
        self.extraValues = values
    }

    /// The earliest of all that is to happen at a time.
    var nextAlarm: Instant? {
        [self.filter?.state.deadline, self.duties?.next].compactMap { $0 }.min()
    }

    /// Decides about a publication that has conditions.
    func admit(_ publication: Publication, _ conditions: DeliveryConditions, now: Instant)
        -> DeliveryFilter<Publication>.Verdict
    {
        let extraFields = self.service.settings.extraFields
        let identity = self.session?.identity
        return self.theFilter.state.admit(conditions, publication, now: now) { name in
            (extraFields.contains(name) ? self.extraValues[name] : identity?.values[name]) ?? .null
        }
    }

    /// The filter, made if there is none yet.
    var theFilter: Filter {
        if let filter = self.filter { return filter }
        let filter = Filter(limit: self.session?.shard.limits.deliveryKeys ?? 1)
        self.filter = filter
        return filter
    }

    /// The duties, made if there are none yet.
    var theDuties: Duties {
        if let duties = self.duties { return duties }
        let duties = Duties()
        self.duties = duties
        return duties
    }

    /// What a native client is told of the place of a publication that is about to be sent.
    /// - Parameter isLast: whether no other that was held back follows at once.
    func place(of publication: Publication, isLast: Bool) -> Publication.Place {
        guard publication.position != nil else {
            self.told = self.seen
            return .own
        }
        // While an older one is held back, the client's position must not pass it.
        guard isLast, (self.filter?.state.heldCount ?? 0) == 0 else { return .none }
        // A gap was told that lies behind it.
        guard self.told < self.seen else { return .none }
        defer { self.told = self.seen }
        if publication.sequence == self.seen, self.told + 1 == self.seen { return .own }
        return .after(self.told, offset: self.seen)
    }
}

/// A service's settings in one place in memory, which all its subscriptions refer to.
final class ServiceRules: Sendable {
    let settings: Configuration.Service
    let history: HistorySettings

    init(_ settings: Configuration.Service, history: HistorySettings) {
        self.settings = settings
        self.history = history
    }

    /// Of places that are held for sessions that move.
    static let placeholder = ServiceRules(Configuration.Service(), history: .none)

    func url(_ callback: Callback) -> ServiceURL? { self.settings.callbacks[callback] }

    /// Whether a service wants to know that a subscription has ended.
    var hasFarewell: Bool { self.url(.beforeUnsubscribe) != nil || self.url(.unsubscribed) != nil }
}

/// Who a session's client is: what the ticket's validation gave (socketshark.md §4).
final class Identity: Sendable {
    let fields: [JSONObject.Member]
    /// The same, to compare messages with.
    let values: [String: ComparableValue]

    init(_ fields: [JSONObject.Member]) {
        self.fields = fields
        var values: [String: ComparableValue] = [:]
        for field in fields { values[field.name] = ComparableValue(field.value) }
        self.values = values
    }
}
