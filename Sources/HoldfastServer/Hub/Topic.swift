import DequeModule
import HoldfastProtocol

/// The subscribers that one event loop has for one topic.
final class Topic {
    let name: String
    private(set) var subscribers: ContiguousArray<Subscription> = []

    init(name: String) {
        self.name = name
    }

    func add(_ subscription: Subscription) {
        subscription.index = self.subscribers.count
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

/// One session's interest in one topic.
final class Subscription {
    let topic: Topic
    /// `nil` only while a session moves to this loop, and after the end.
    var session: Session?
    var index = -1
    /// What the session is still to be sent before it is live: what came before the broker answered (socketshark.md §5.2),
    /// and what it missed, handed over as fast as its transport takes it. `nil` once the subscription is live.
    var waiting: Deque<Publication>? = []
    /// Bytes of publications that came while others waited. They count as a slow consumer's; what was missed does not.
    var waitingBytes = 0
    /// Sequence of the last publication that the session got or does not need.
    var seen: UInt64 = 0
    /// The service's extra fields as the client gave them, in the order of the configuration.
    let extras: [JSONObject.Member]

    init(topic: Topic, session: Session?, extras: [JSONObject.Member]) {
        self.topic = topic
        self.session = session
        self.extras = extras
    }
}
