import HoldfastBroker
import HoldfastCore
import NIOSSL
import Yams

extension Configuration {
    /// Reads a YAML file's text over the values that are set, lets `HOLDFAST_…` variables override each key, and checks all.
    ///
    /// - Parameters:
    ///   - yaml: the file's text; empty for the environment alone.
    ///   - file: its name, for messages.
    ///   - environment: the process's variables.
    /// - Throws: ``ConfigurationError`` with everything that is wrong.
    public mutating func load(yaml: String, file: String, environment: [String: String]) throws(ConfigurationError) {
        let root: Node?
        do {
            root = try Yams.compose(yaml: yaml)
        } catch let error as YamlError {
            throw ConfigurationError(issues: [Self.issue(of: error, file: file, yaml: yaml)])
        } catch {
            throw ConfigurationError(issues: [ConfigurationIssue(place: file, text: "\(error)")])
        }
        if let root, root.mapping == nil, root.null == nil {
            throw ConfigurationError(issues: [
                ConfigurationIssue(
                    place: file, line: root.mark?.line ?? 1, text: "the file must be a mapping of keys to values")
            ])
        }
        let reader = ConfigurationReader(file: file, node: root?.mapping, environment: environment)
        self.read(reader)
        reader.finish()
        reader.finishEnvironment()
        guard reader.issues.isEmpty else {
            throw ConfigurationError(issues: reader.issues.sorted { $0.line ?? .max < $1.line ?? .max })
        }
    }

    private static func issue(of error: YamlError, file: String, yaml: String) -> ConfigurationIssue {
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            ConfigurationIssue(place: file, line: mark.line, text: "not YAML: \(problem)")
        case .duplicatedKeysInMapping(let duplicates, let context):
            ConfigurationIssue(
                place: file,
                line: Self.lastLine(of: duplicates.first ?? "", in: yaml) ?? context.mark.line,
                text: "\(duplicates.joined(separator: ", ")): given twice"
            )
        // A character that YAML does not allow, which is known by the bytes before it.
        case .reader(let problem, let offset?, _, _):
            ConfigurationIssue(
                place: file, line: 1 + yaml.utf8.prefix(offset).count { $0 == 0x0A }, text: "not YAML: \(problem)"
            )
        default: ConfigurationIssue(place: file, line: 1, text: "not YAML: \(error)")
        }
    }

    /// The parser only tells where the mapping begins; people want the line of the key.
    private static func lastLine(of key: String, in yaml: String) -> Int? {
        let lines = yaml.split(separator: "\n", omittingEmptySubsequences: false)
        return lines.lastIndex { $0.drop { $0 == " " }.hasPrefix(key + ":") }.map { $0 + 1 }
    }

    private mutating func read(_ reader: ConfigurationReader) {
        if let host = reader.string("ws_host") { self.host = host }
        reader.integer("ws_port", &self.port, in: 0...65535)
        reader.section("ws_ssl") { reader in
            switch (reader.string("cert"), reader.string("key")) {
            case (let certificate?, let key?):
                let tls = TLS(certificate: certificate, key: key)
                do throws(TLSFileError) {
                    // Read here, so that a mistake has its line and `check` finds it.
                    _ = try NIOSSLContext(holdfast: tls)
                } catch {
                    reader.complain(error.key, error.reason)
                }
                self.tls = tls
            case (nil, nil): self.tls = nil
            case (nil, _?): reader.complain("cert", "is missing beside key")
            case (_?, nil): reader.complain("key", "is missing beside cert")
            }
        }
        reader.section("ws_ping") { reader in
            if let interval = reader.optionalNumber("interval", self.ping.interval, in: 0.05...3600) {
                self.ping.interval = interval
            } else {
                self.ping.interval = 0
            }
            reader.number("timeout", &self.ping.timeout, in: 0.05...3600)
        }
        reader.boolean("push_times", &self.pushTimes)
        reader.integer("threads", &self.threads, in: 0...1024)
        if let prefix = reader.string("prefix") {
            self.prefix = prefix
            if !prefix.isEmpty, !prefix.hasPrefix("/") || prefix.hasSuffix("/") {
                reader.complain("prefix", "must begin with / and not end with it, but is \"\(prefix)\"")
            }
            if !prefix.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && !"?#%\"<>\\^`{|}".utf8.contains($0) }) {
                reader.complain("prefix", "must be a plain path, such as /live, but is \"\(prefix)\"")
            }
        }
        if let node = reader.string("node") { self.node = node }
        if let digits = reader.string("session_digits") {
            self.sessionDigits = digits.utf8.compactMap { UInt8(String(UnicodeScalar($0)), radix: 16) }
            if self.sessionDigits.count != digits.utf8.count || digits != digits.lowercased() {
                reader.complain("session_digits", "must be digits from 0 to f, such as 01234567, but is \"\(digits)\"")
            }
        }
        reader.section("log") { reader in
            reader.choice(
                "level", &self.log.level,
                of: ["trace", "debug", "info", "notice", "warning", "error", "critical"]
            )
            reader.notSupported(
                ["setup_structlog", "format", "logger_name", "trace_logger_prefix", "trace_level"],
                "belongs to Python's logging and has no counterpart; use log.level"
            )
        }
        reader.section("heartbeat") { reader in
            reader.number("interval", &self.heartbeat.interval, in: 0.1...3600)
            reader.number("hidden_interval", &self.heartbeat.hiddenInterval, in: 0.1...3600)
            reader.number("timeout", &self.heartbeat.timeout, in: 0.1...3600)
        }
        reader.number("session_ttl", &self.sessionTTL, in: 0...86400)
        reader.number("accept_rate", &self.acceptRate, in: 1...1_000_000)
        reader.section("drain") { reader in
            reader.number("window", &self.drain.window, in: 0...3600)
            reader.number("deadline", &self.drain.deadline, in: 0...3600)
        }
        reader.section("limits") { self.limits.read($0) }
        reader.section("api") { reader in
            if let key = reader.string("key") {
                self.api.key = key
                if key.utf8.count < 16 {
                    reader.complain("key", "must have at least 16 characters, but has \(key.utf8.count)")
                }
            }
        }
        reader.section("cors") { reader in
            reader.strings("origins", &self.cors.origins)
            for origin in self.cors.origins where !Self.isOrigin(origin) {
                reader.complain(
                    "origins",
                    "an origin is http(s)://host or http(s)://host:port, without the scheme's own port, as browsers send it, "
                        + "but is \"\(origin)\""
                )
            }
        }
        reader.boolean("diagnose", &self.diagnose)
        self.readRedis(reader)
        self.readHTTP(reader)
        self.readBrokerAndServices(reader)
        reader.notSupported(["backend"], "is not needed: there is one backend")
    }

    /// What browsers send in `Origin`: lower case, no path, not even a slash (RFC 6454 §6.1).
    private static func isOrigin(_ text: String) -> Bool {
        let parts = text.split(separator: "://", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, let own = ["http": 80, "https": 443][parts[0]], text == text.lowercased() else {
            return false
        }
        let host = parts[1]
        guard !host.isEmpty, !host.contains(where: { "/?#*,@ ".contains($0) }) else { return false }
        // The port stands behind the last colon, unless that belongs to an IPv6 address.
        guard let colon = host.lastIndex(of: ":"), !host[colon...].contains("]") else { return true }
        guard let port = Int(host[host.index(after: colon)...]) else { return false }
        return colon != host.startIndex && (1...65535).contains(port) && port != own
    }

    private mutating func readBrokerAndServices(_ reader: ConfigurationReader) {
        reader.section("broker") { reader in
            var kind = "memory"
            reader.choice("kind", &kind, of: ["memory"])
            reader.integer("history_bytes", &self.broker.memory.historyBytes, in: 0...(1 << 40))
            reader.integer("topics", &self.broker.memory.topics, in: 1...100_000_000)
            reader.number("topic_ttl", &self.broker.memory.topicTTL, in: 1...86400)
            reader.integer("idempotency_keys", &self.broker.memory.idempotencyKeys, in: 0...100_000_000)
            reader.number("idempotency_ttl", &self.broker.memory.idempotencyTTL, in: 1...86400)
        }
        reader.section("history") { Self.read(&self.history, $0) }
        reader.entries("services") { name, reader in
            var service = Service()
            if name.isEmpty || name.contains(".") {
                reader.complain("name", "a service's name must not be empty or contain a dot, but is \"\(name)\"")
            }
            reader.boolean("require_authentication", &service.requireAuthentication)
            reader.strings("extra_fields", &service.extraFields)
            for field in service.extraFields where Self.reservedFields.contains(field) {
                reader.complain("extra_fields", "\"\(field)\" is a member of the protocol and cannot be an extra field")
            }
            var history = self.history
            reader.section("history") { Self.read(&history, $0) }
            service.history = history
            reader.strings("filter_fields", &service.filterFields)
            reader.strings("authorizer_fields", &service.authorizerFields)
            for callback in Callback.ofServices {
                let isGate = callback == .authorizer || callback == .beforeSubscribe
                reader.url(callback.rawValue, isGate: isGate) { service.callbacks[callback] = $0 }
            }
            service.renewalPeriod = reader.optionalNumber("authorization_renewal_period", nil, in: 0.05...31_536_000)
            reader.number("authorization_renewal_jitter", &service.renewalJitter, in: 0...31_536_000)
            reader.number("authorization_grace", &service.authorizationGrace, in: 0...31_536_000)
            service.heartbeatPeriod = reader.optionalNumber("heartbeat_period", nil, in: 0.05...31_536_000)
            if let period = service.renewalPeriod, service.renewalJitter > period {
                reader.complain(
                    "authorization_renewal_jitter",
                    "must not be greater than authorization_renewal_period (\(period)), but is \(service.renewalJitter)"
                )
            }
            self.services[name] = service
        }
    }

    private mutating func readRedis(_ reader: ConfigurationReader) {
        reader.optionalSection("redis", not: "redis_alt") { reader in
            var redis = Redis()
            redis.settings.read(reader)
            reader.number("linger", &redis.settings.linger, in: 0...86400)
            reader.number("subscribe_timeout", &redis.settings.subscribeTimeout, in: 0.1...3600)
            var onLoss = redis.onLoss.rawValue
            reader.choice("on_loss", &onLoss, of: OnLoss.allCases.map(\.rawValue))
            redis.onLoss = OnLoss(rawValue: onLoss) ?? redis.onLoss
            self.redis = redis
            // What was published while a client was away must be there when it comes back.
            if self.history == .none {
                self.history = HistorySettings(size: 1000, ttl: max(120, redis.settings.linger))
            }
        }
        reader.optionalSection("redis_alt") { reader in
            var redis = Redis()
            redis.settings.read(reader)
            self.redisAlternative = redis
            if self.redis == nil { reader.complain("host", "redis_alt is a second Redis; redis is missing") }
        }
    }

    private mutating func readHTTP(_ reader: ConfigurationReader) {
        reader.section("http") { reader in
            reader.number("timeout", &self.http.timeout, in: 0.05...3600)
            reader.integer("tries", &self.http.retry.tries, in: 0...1000)
            reader.number("wait", &self.http.retry.wait, in: 0...3600)
            reader.integer("response_bytes", &self.http.responseBytes, in: 2...(1 << 30))
            if let file = reader.string("ssl_cafile") {
                self.http.certificateAuthorities = file
                do {
                    _ = try NIOSSLCertificate.fromPEMFile(file)
                } catch {
                    reader.complain("ssl_cafile", "\(file) has no certificates in PEM form that can be read: \(error)")
                }
            }
            var names: [String] = []
            reader.strings("rate_limit_reset_header_names", &names)
            let name = reader.string("rate_limit_reset_header_name")
            if !names.isEmpty {
                self.http.retry.rateLimitHeaders = names
            } else if let name {
                self.http.retry.rateLimitHeaders = [name]
            }
        }
        reader.section("authentication") { reader in
            reader.optionalSection("ticket") { reader in
                var fields: [String] = []
                reader.strings("auth_fields", &fields)
                var url: ServiceURL?
                reader.url("validation_url") { url = $0 }
                if let url {
                    self.authentication.ticket = Authentication.Ticket(validationURL: url, fields: fields)
                } else {
                    reader.require("validation_url")
                }
            }
        }
        reader.section("metrics") { reader in
            reader.optionalSection("prometheus") { reader in
                var listener = Metrics.Listener()
                if let host = reader.string("host"), !host.isEmpty { listener.host = host }
                var port = -1
                reader.integer("port", &port, in: 0...65535)
                if port < 0 { reader.require("port") }
                listener.port = port
                self.metrics.prometheus = listener
            }
            reader.optionalSection("log") { _ in self.metrics.isLogged = true }
        }
    }

    private static func read(_ history: inout HistorySettings, _ reader: ConfigurationReader) {
        reader.integer("size", &history.size, in: 0...1_000_000)
        reader.number("ttl", &history.ttl, in: 0...31_536_000)
        reader.integer("bytes", &history.bytes, in: 1...(1 << 40))
    }

    /// SocketShark lets an extra field overwrite the envelope (socketshark.md §3.3, a bug); here it is refused.
    private static let reservedFields: Set<String> = [
        "event", "status", "error", "data", "subscription", "received_at", "sent_at", "published_at", "queue_size",
    ]
}

extension RedisSettings {
    fileprivate mutating func read(_ reader: ConfigurationReader) {
        if let host = reader.string("host") { self.host = host }
        reader.integer("port", &self.port, in: 1...65535)
        self.socket = reader.string("socket")
        reader.integer("db", &self.database, in: 0...1_000_000)
        self.username = reader.string("username")
        self.password = reader.string("password")
        if self.username != nil, self.password == nil { reader.complain("username", "needs a password beside it") }
        if let prefix = reader.string("channel_prefix") { self.channelPrefix = prefix }
        self.pingInterval = reader.optionalNumber("ping_interval", self.pingInterval, in: 0.05...86400)
        self.pingTimeout = reader.optionalNumber("ping_timeout", self.pingTimeout, in: 0.05...86400)
        reader.tls("tls") { reader in
            self.tls = RedisSettings.TLS(
                authorities: reader.string("ca"), certificate: reader.string("cert"), key: reader.string("key"),
                serverName: reader.string("server_name")
            )
            if let problem = self.tls?.problem { reader.complain(problem.key, problem.reason) }
        } plain: {
            self.tls = $0 ? RedisSettings.TLS() : nil
        }
    }
}

extension Configuration.Limits {
    fileprivate mutating func read(_ reader: ConfigurationReader) {
        reader.integer("message_bytes", &self.messageBytes, in: 128...(1 << 30))
        reader.integer("frame_bytes", &self.frameBytes, in: 128...(1 << 30))
        reader.integer("publication_bytes", &self.publicationBytes, in: 1...(1 << 30))
        reader.integer("request_bytes", &self.requestBytes, in: 1024...(1 << 30))
        reader.integer("batch", &self.batch, in: 1...100_000)
        reader.integer("subscriptions", &self.subscriptions, in: 1...1_000_000)
        reader.integer("name_bytes", &self.nameBytes, in: 3...65536)
        reader.integer("sessions", &self.sessions, in: 1...100_000_000)
        reader.number("handshake_time", &self.handshakeTime, in: 0.1...3600)
        reader.number("idle_time", &self.idleTime, in: 0.1...3600)
        reader.number("poll_time", &self.pollTime, in: 0.1...3600)
        reader.number("authentication_time", &self.authenticationTime, in: 0...86400)
        reader.number("close_time", &self.closeTime, in: 0.1...3600)
        reader.integer("slow_consumer_bytes", &self.slowConsumerBytes, in: 1024...(1 << 40))
        reader.integer("outbox_bytes", &self.outbox.bytes, in: 1024...(1 << 40))
        reader.integer("outbox_events", &self.outbox.events, in: 1...10_000_000)
        var age = self.outbox.age.seconds
        reader.number("outbox_age", &age, in: 1...86400)
        self.outbox.age = .seconds(age)
        reader.integer("waiting_events", &self.waitingEvents, in: 1...1_000_000)
        reader.integer("waiting_bytes", &self.waitingBytes, in: 1024...(1 << 40))
        reader.integer("topics_at_once", &self.topicsAtOnce, in: 1...100_000)
        reader.integer("callback_bytes", &self.callbackBytes, in: 1024...(1 << 40))
        reader.integer("delivery_keys", &self.deliveryKeys, in: 1...1_000_000)
        reader.integer("callbacks", &self.callbacks, in: 1...100_000)
        reader.integer("waiting_callbacks", &self.waitingCallbacks, in: 0...10_000_000)
        reader.integer("message_ids", &self.messageIDs, in: 0...100_000_000)
        reader.integer("message_id_bytes", &self.messageIDBytes, in: 1024...(1 << 40))
        reader.number("message_id_time", &self.messageIDTime, in: 1...604_800)
        reader.integer("json_depth", &self.json.depth, in: 2...100_000)
        reader.integer("json_members", &self.json.members, in: 8...10_000)
        reader.integer("timeline", &self.timeline, in: 1...10_000)
        reader.integer("ended_sessions", &self.endedSessions, in: 0...1_000_000)
        reader.integer("fanout_backlog", &self.fanoutBacklog, in: 1...100_000_000)
    }
}
