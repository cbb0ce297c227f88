import HoldfastCore
import HoldfastProtocol

/// Counters of one event loop: plain integers, added up when somebody asks. A metrics library would put an atomic
/// operation on every delivery.
struct ShardMetrics: Sendable {
    var nativeDeliveries = 0
    var plainDeliveries = 0
    var flushes = 0
    var bytesWritten = 0
    var clientEvents: [ClientEventLabel: Int] = [:]
    var transportsOpened: [SessionTransport.Kind: Int] = [:]
    var closes: [String: Int] = [:]
    var sessionsOpened = 0
    var resumed = 0
    var resumesRefused = 0
    var sessionsExpired = 0
    var pingsSent = 0
    var pingsLost = 0
    var slowConsumers = 0
    var gaps = 0
    /// Publications that filters have kept from a session.
    var drops: [DeliveryFilter<Publication>.Reason: Int] = [:]
    var recoveries = 0

    struct ClientEventLabel: Hashable, Sendable {
        let event: String
        let isSuccess: Bool
    }

    struct AttachedLabel: Hashable, Sendable {
        let dialect: Dialect
        let transport: SessionTransport.Kind?
    }

    // Gauges, filled in when somebody asks.
    var attachedSessions: [AttachedLabel: Int] = [:]
    var windingUp = 0
    var waitingSessions = 0
    var transports: [SessionTransport.Kind: Int] = [:]
    var subscriptions = 0
    var queueBytes = 0
    var outboxBytes = 0
    var topics = 0
}
