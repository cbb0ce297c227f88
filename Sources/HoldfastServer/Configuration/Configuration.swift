import HoldfastBroker
import HoldfastCore
import HoldfastProtocol

/// Everything that an operator may set. Keys of the YAML file have the same names in snake case; docs/configuration.md
/// describes each. Times are in seconds, sizes in bytes.
public struct Configuration: Sendable, Equatable {
    /// Address to listen on (`ws_host`).
    public var host = "127.0.0.1"
    /// Port to listen on (`ws_port`); 0 takes a free one.
    public var port = 9000
    /// Certificate and key files in PEM form (`ws_ssl`).
    public var tls: TLS?
    /// Event loops (`threads`); 0 means one per core.
    public var threads = 0
    /// Put before every endpoint, such as `/live`.
    public var prefix = ""
    /// Name of this gateway in `hello` replies and logs; empty takes a random one.
    public var node = ""
    /// What the handles of sessions begin with, as numbers from 0 to 15, so that a balancer can tell by a path which of
    /// several gateways has the session; empty for any.
    public var sessionDigits: [UInt8] = []
    public var log = Log()
    public var ping = Ping()
    /// Whether plain clients' messages have times and `queue_size`, as SocketShark's after 0.5.0.
    public var pushTimes = true
    public var heartbeat = ServerEvent.HeartbeatAdvice()
    /// How long a native session waits for its client after its transport is gone.
    public var sessionTTL = 60.0
    /// Connections that this gateway can take back per second: what `spread` is computed from.
    public var acceptRate = 2000.0
    public var drain = Drain()
    public var limits = Limits()
    public var api = API()
    public var cors = CORS()
    /// Whether `/diagnose` is served.
    public var diagnose = true
    public var broker = Broker()
    /// How services are called.
    public var http = HTTP()
    /// Where legacy publishers publish; `nil` without Redis.
    public var redis: Redis?
    /// A second one, whose messages are delivered alike: for moving publishers from one to the other.
    public var redisAlternative: Redis?
    public var authentication = Authentication()
    public var metrics = Metrics()
    /// History of services that set none of their own.
    public var history = HistorySettings.none
    public var services: [String: Service] = [:]
    /// Allows every `service.topic` to anonymous clients and, on loopback, the server API without a key.
    public var isDevelopment = false
    /// Sends every message back instead of reading it as an event: for conformance tools. No key of the file sets it.
    public var isEcho = false

    public init() {}

    /// What `serve --dev` starts with: nothing to configure, everything allowed, history kept.
    public static var development: Configuration {
        var configuration = Configuration()
        configuration.isDevelopment = true
        configuration.cors.isOpen = true
        // Where `publish` and `tail` look.
        configuration.port = 8080
        configuration.history = HistorySettings(size: 1000, ttl: 300)
        configuration.drain.window = 1
        configuration.drain.deadline = 2
        return configuration
    }

    public struct TLS: Sendable, Equatable {
        public var certificate: String
        public var key: String

        public init(certificate: String, key: String) {
            self.certificate = certificate
            self.key = key
        }
    }

    public struct Log: Sendable, Equatable {
        /// `trace`, `debug`, `info`, `notice`, `warning`, `error` or `critical`.
        public var level = "info"
    }

    /// RFC 6455 Pings from the gateway (`ws_ping`).
    public struct Ping: Sendable, Equatable {
        /// Silence after which the gateway asks; 0 never asks.
        public var interval = 15.0
        /// How long the answer may take before the transport is dropped.
        public var timeout = 15.0
    }

    /// The planned stop.
    public struct Drain: Sendable, Equatable {
        /// Clients are told to come back elsewhere at a random time within this.
        public var window = 5.0
        /// When the gateway stops, whoever is still there.
        public var deadline = 10.0
    }

    public struct Limits: Sendable, Equatable {
        /// Message from a client, all fragments together; beyond it close 1009.
        public var messageBytes = 1 << 20
        /// One frame from a client; beyond it close 1009.
        public var frameBytes = 1 << 20
        /// `data` of one publication; beyond it 413.
        public var publicationBytes = 8 << 20
        /// Body of one request to the server API; beyond it 413.
        public var requestBytes = 16 << 20
        /// Publications in one batch.
        public var batch = 1000
        /// Subscriptions of one session; beyond it an error reply.
        public var subscriptions = 1000
        /// Length of a subscription's name; beyond it an error reply.
        public var nameBytes = 256
        /// Sessions of this gateway, waiting ones included; beyond it `limit_exceeded` and close 4029.
        public var sessions = 100_000
        /// WebSockets of this gateway: a tenth more than sessions, but at least 16 more, so that clients of a full gateway
        /// can still change lines; beyond it 503.
        var webSockets: Int { self.sessions + max(16, self.sessions / 10) }
        /// How long a new connection may take for its first request, and a request to be complete, as long as nothing comes.
        public var handshakeTime = 10.0
        /// How long an HTTP connection is kept between two requests. Longer than what proxies keep theirs to the gateway, which
        /// would else use one at the moment that it is closed.
        public var idleTime = 75.0
        /// How long a poll may be outstanding; one that asks for more is answered after this.
        public var pollTime = 60.0
        /// How long a session may stay unauthenticated where every service asks for it; beyond it close 4001. 0 is for ever.
        public var authenticationTime = 60.0
        /// How long the peer may take to answer a Close frame.
        public var closeTime = 5.0
        /// What may wait for a slow consumer; beyond it close 4008.
        public var slowConsumerBytes = 1 << 20
        /// What a session keeps until its client acknowledges it.
        public var outbox = Outbox.Limits()
        /// Events of one session that callbacks are made for or that wait behind them; beyond it an error reply.
        public var waitingEvents = 1000
        /// Bytes of those; beyond it an error reply. A single one always passes.
        public var waitingBytes = 1 << 20
        /// Topics of one session that callbacks are made for side by side; others wait.
        public var topicsAtOnce = 32
        /// Order keys and throttle keys that a subscription remembers, of each kind; beyond it the oldest are forgotten.
        public var deliveryKeys = 1000
        /// Callbacks under way at once to one address; others wait in order.
        public var callbacks = 256
        /// Callbacks to one address that wait; beyond it `Service unavailable.`
        public var waitingCallbacks = 10_000
        /// Bytes of the requests of all callbacks under way and waiting; beyond it `Service unavailable.`
        public var callbackBytes = 256 << 20
        /// Messages of native clients that are known when they are repeated, so that services are asked once; beyond it the oldest
        /// are forgotten. 0 remembers none.
        public var messageIDs = 100_000
        /// Bytes of the answers that are kept with them; beyond it the oldest are forgotten, too.
        public var messageIDBytes = 64 << 20
        /// How long one is known, in seconds.
        public var messageIDTime = 86400.0
        /// Nesting of client events and published data, and members of a client event.
        public var json = JSONLimits()
        /// Entries in a session's timeline; beyond it the oldest go.
        public var timeline = 64
        /// Sessions that have ended and can still be looked at; beyond it the oldest go.
        public var endedSessions = 1000
        /// Publications on their way to one event loop; beyond it publishing is refused with 503 until the loop has caught up.
        public var fanoutBacklog = 100_000
    }

    public struct API: Sendable, Equatable {
        /// What callers of the server API present; `nil` closes it.
        public var key: String?
    }

    /// Pages of other origins that may use the event stream and the long poll. WebSockets know no such limit.
    public struct CORS: Sendable, Equatable {
        /// `https://app.example.com`
        public var origins: [String] = []
        /// Any page may, but without cookies. For development.
        var isOpen = false

        /// What an answer must say to a page of this origin; empty if it is not allowed.
        func headers(for origin: String?) -> [(String, String)] {
            guard let origin else { return [] }
            let expose = ("Access-Control-Expose-Headers", "Retry-After")
            if self.origins.contains(origin) {
                return [
                    ("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Credentials", "true"),
                    ("Vary", "Origin"), expose,
                ]
            }
            return self.isOpen ? [("Access-Control-Allow-Origin", "*"), expose] : []
        }
    }

    public struct Broker: Sendable, Equatable {
        public var memory = MemoryBroker.Limits()
    }

    /// How callbacks are made (socketshark.md §7).
    public struct HTTP: Sendable, Equatable {
        /// Seconds for one try, from connecting to the end of the answer.
        public var timeout = 15.0
        public var retry = CallbackRetry.Settings()
        /// Certificates in PEM form that are trusted instead of the system's.
        public var certificateAuthorities: String?
        /// Largest answer that is read; beyond it the try has failed.
        public var responseBytes = 1 << 20
    }

    /// One Redis to listen to (socketshark.md §10).
    public struct Redis: Sendable, Equatable {
        public var settings = RedisSettings()
        /// What happens to clients when Redis is lost.
        public var onLoss = OnLoss.keep
    }

    public enum OnLoss: String, Sendable, CaseIterable {
        /// They stay, and are told of a gap once Redis is back.
        case keep
        /// They are closed with 1012, and nobody is let in until Redis is back.
        case close
    }

    public struct Authentication: Sendable, Equatable {
        /// `{"event":"auth","method":"ticket"}`; `nil` where no such method is configured.
        public var ticket: Ticket?

        public struct Ticket: Sendable, Equatable {
            public var validationURL: ServiceURL
            /// Members of the service's answer that become the session's identity.
            public var fields: [String]
        }
    }

    public struct Metrics: Sendable, Equatable {
        /// A port of its own for `/metrics`, without a key; `nil` for none.
        public var prometheus: Listener?
        /// Whether the number of sessions is logged when it changes, at level debug.
        public var isLogged = false

        public struct Listener: Sendable, Equatable {
            public var host = "0.0.0.0"
            public var port = 0
        }
    }

    public struct Service: Sendable, Equatable {
        public var requireAuthentication = true
        /// Names of members that a client may add to `subscribe` and gets back with each message.
        public var extraFields: [String] = []
        /// Names of members of a message that its recipients must have the same value of.
        public var filterFields: [String] = []
        /// `nil` takes ``Configuration/history``.
        public var history: HistorySettings?
        public var callbacks: [Callback: ServiceURL] = [:]
        /// Members of the authorizer's answer that later callbacks are given.
        public var authorizerFields: [String] = []
        /// Seconds after which the authorizer is asked again; `nil` for never.
        public var renewalPeriod: Double?
        /// Up to so many seconds earlier, at random.
        public var renewalJitter = 0.0
        /// Seconds that a subscription outlives an authorizer that does not answer.
        public var authorizationGrace = 0.0
        /// Seconds between two calls of `on_heartbeat`.
        public var heartbeatPeriod: Double?

        public init() {}
    }
}

extension Configuration {
    /// What applies to services that are not configured; `nil` where those are unknown.
    var otherServices: Service? {
        guard self.isDevelopment else { return nil }
        var service = Service()
        service.requireAuthentication = false
        return service
    }

    var hasCallbacks: Bool {
        self.authentication.ticket != nil || self.services.values.contains { !$0.callbacks.isEmpty }
    }

    func history(of service: Service) -> HistorySettings { service.history ?? self.history }

    /// What the delivery filters need to know of services.
    var publishingRules: PublishingRules {
        PublishingRules(
            services: self.services.mapValues {
                PublishingRules.Service(filterFields: $0.filterFields, history: self.history(of: $0))
            },
            others: self.isDevelopment ? PublishingRules.Service(filterFields: [], history: self.history) : nil,
            // A message may have more members than a client's event.
            json: JSONLimits(depth: self.limits.json.depth, members: max(1000, self.limits.json.members)),
            messageBytes: self.limits.publicationBytes
        )
    }

    /// Whether an unauthenticated session is of no use, so that it need not be kept for long.
    var everyServiceAsksForAuthentication: Bool {
        !self.isDevelopment && !self.services.isEmpty && self.services.values.allSatisfy(\.requireAuthentication)
    }

    /// Whether the gateway listens on this machine only.
    public var isLoopback: Bool {
        self.host == "localhost" || self.host == "::1" || self.host.hasPrefix("127.")
    }
}
