import HoldfastBroker
import HoldfastCore
import Testing

@testable import HoldfastServer

@Suite struct ConfigurationTests {
    private func load(_ yaml: String, _ environment: [String: String] = [:]) throws -> Configuration {
        var configuration = Configuration()
        try configuration.load(yaml: yaml, file: "h.yml", environment: environment)
        return configuration
    }

    private func issues(_ yaml: String, _ environment: [String: String] = [:]) -> [String] {
        var configuration = Configuration()
        do throws(ConfigurationError) {
            try configuration.load(yaml: yaml, file: "h.yml", environment: environment)
            return []
        } catch {
            return error.issues.map(\.description)
        }
    }

    @Test(arguments: ["", "\n", "# nothing\n", "~", "{}", "limits:\n", "limits: ~\nservices:\nws_ping: {}\n"])
    func nothingGivenIsTheDefault(_ yaml: String) throws {
        #expect(try self.load(yaml) == Configuration())
    }

    @Test func everything() throws {
        let configuration = try self.load(
            """
            ws_host: 0.0.0.0
            ws_port: 9_001
            ws_ping: {interval: 0, timeout: 2.5}
            threads: 3
            prefix: /live
            node: n1
            log: {level: WARNING}
            heartbeat: {interval: 1, hidden_interval: 2, timeout: 3}
            session_ttl: 30
            drain: {window: 4, deadline: 8}
            limits: {message_bytes: 4096, outbox_age: 7.5, json_depth: 10}
            api: {key: 0123456789abcdef}
            broker: {kind: memory, topics: 9}
            history: {size: 5, ttl: 60}
            services:
              calls:
                require_authentication: no
                extra_fields: [user, room]
              books:
                history: {size: 7}
            """
        )
        #expect(configuration.host == "0.0.0.0")
        #expect(configuration.port == 9001)
        #expect(configuration.ping == Configuration.Ping(interval: 0, timeout: 2.5))
        #expect(configuration.threads == 3)
        #expect(configuration.prefix == "/live")
        #expect(configuration.log.level == "warning")
        #expect(configuration.heartbeat == .init(interval: 1, hiddenInterval: 2, timeout: 3))
        #expect(configuration.sessionTTL == 30)
        #expect(configuration.limits.outbox.age == .seconds(7.5))
        #expect(configuration.limits.json.depth == 10)
        #expect(configuration.api.key == "0123456789abcdef")
        #expect(configuration.broker.memory.topics == 9)
        #expect(configuration.services["calls"]?.requireAuthentication == false)
        #expect(configuration.services["calls"]?.extraFields == ["user", "room"])
        #expect(configuration.services["calls"]?.history == HistorySettings(size: 5, ttl: 60))
        #expect(configuration.services["books"]?.requireAuthentication == true)
        #expect(configuration.services["books"]?.history == HistorySettings(size: 7, ttl: 60))
        #expect(!configuration.isLoopback)
    }

    @Test func unknownKeysNameTheNearestAndTheLine() {
        #expect(self.issues("ws_host: a\nws_prot: 1\n") == ["h.yml:2: ws_prot: unknown key; did you mean \"ws_port\"?"])
        #expect(
            self.issues("ws_ping:\n  interval: 1\n\n  timeuot: 2\n") == [
                "h.yml:4: ws_ping.timeuot: unknown key; did you mean \"timeout\"?"
            ]
        )
        #expect(self.issues("log:\n  zzzzzzzz: 2\n") == ["h.yml:2: log.zzzzzzzz: unknown key; known here: level"])
        #expect(
            self.issues("services:\n  calls:\n    extra_field: []\n") == [
                "h.yml:3: services.calls.extra_field: unknown key; did you mean \"extra_fields\"?"
            ]
        )
    }

    @Test func everythingThatIsWrongIsTold() {
        let issues = self.issues("ws_port: x\nthreads: -1\nnonsense_here: 1\nlog: {level: lound}\n")
        #expect(issues.count == 4)
        #expect(issues.contains("h.yml:1: ws_port: must be a whole number, but is \"x\""))
        #expect(issues.contains("h.yml:2: threads: must be from 0 to 1024, but is -1"))
        #expect(issues.contains { $0.hasPrefix("h.yml:3: nonsense_here: unknown key") })
        #expect(issues.contains { $0.hasPrefix("h.yml:4: log.level: must be one of trace, debug,") })
    }

    @Test func keysWithoutCounterpartAreExplained() {
        #expect(self.issues("backend: websockets\n") == ["h.yml:1: backend: is not needed: there is one backend"])
        #expect(self.issues("log: {trace_level: DEBUG}\n").first?.contains("Python's logging") == true)
    }

    @Test func socketSharksWholeConfiguration() throws {
        let configuration = try self.load(
            """
            ws_port: "9000"
            http: {timeout: 2, tries: 2, wait: 0.5, ssl_cafile: null, rate_limit_reset_header_name: X-Wait}
            redis: {host: 10.0.0.1, port: 6380, db: 2, channel_prefix: "p:", ping_interval: 3, ping_timeout: 1}
            redis_alt: {host: 10.0.0.2}
            authentication: {ticket: {validation_url: "http://a/t", auth_fields: [user_id, org]}}
            metrics: {prometheus: {port: 9100}, log: {}}
            services:
              books:
                require_authentication: false
                authorizer: http://u:p@a/authorize
                authorizer_fields: [role]
                authorization_renewal_period: 60
                authorization_renewal_jitter: 10
                extra_fields: [x]
                filter_fields: [user_id]
                heartbeat_period: 5
                on_heartbeat: https://b/beat
            """
        )
        #expect(configuration.port == 9000)
        #expect(configuration.http.timeout == 2)
        #expect(
            configuration.http.retry == CallbackRetry.Settings(tries: 2, wait: 0.5, rateLimitHeaders: ["X-Wait"]))
        let redis = try #require(configuration.redis?.settings)
        #expect("\(redis)" == "10.0.0.1:6380")
        #expect((redis.database, redis.channelPrefix) == (2, "p:"))
        #expect((redis.pingInterval, redis.pingTimeout) == (3, 1))
        #expect((redis.linger, redis.subscribeTimeout) == (120, 5))
        #expect(configuration.redisAlternative?.settings.port == 6379)
        #expect(configuration.authentication.ticket?.fields == ["user_id", "org"])
        #expect(configuration.metrics.prometheus == .init(host: "0.0.0.0", port: 9100))
        #expect(configuration.metrics.isLogged)
        let books = try #require(configuration.services["books"])
        #expect(books.callbacks[.authorizer]?.text == "http://a/authorize")
        #expect(books.callbacks[.heartbeat]?.text == "https://b/beat")
        #expect((books.renewalPeriod, books.renewalJitter, books.heartbeatPeriod) == (60, 10, 5))
        #expect(configuration.history(of: books) == HistorySettings(size: 1000, ttl: 120))
        #expect(configuration.hasCallbacks)
    }

    @Test(arguments: ["null", "0", "false", "~"]) func pingsCanBeSwitchedOff(_ value: String) throws {
        #expect(try self.load("ws_ping: {interval: \(value)}").ping.interval == 0)
        #expect(try self.load("redis: {ping_interval: \(value)}").redis?.settings.pingInterval == nil)
    }

    @Test func sectionsThatAreThereOrNot() throws {
        #expect(try self.load("redis: ~").redis == nil)
        #expect(try self.load("redis: {}").redis?.settings == RedisSettings())
        #expect(try self.load("", ["HOLDFAST_REDIS_HOST": "r"]).redis?.settings.host == "r")
        #expect(try self.load("redis_alt: ~\nauthentication: {}\nmetrics: {}").metrics.prometheus == nil)
    }

    @Test func historyWithRedisLastsAsLongAsItsChannels() throws {
        #expect(try self.load("redis: {linger: 300}").history == HistorySettings(size: 1000, ttl: 300))
        #expect(try self.load("redis: {linger: 0}").history.ttl == 120)
        #expect(try self.load("redis: {}\nhistory: {size: 0}").history.isKept == false)
    }

    @Test(arguments: [
        ("redis: {on_loss: stay}", "redis.on_loss: must be one of keep, close"),
        ("redis_alt: {}", "redis_alt is a second Redis; redis is missing"),
        ("redis: {username: u}", "needs a password"), ("redis: {linger: -1}", "must be from 0"),
        ("redis: {tls: {cert: a}}", "cert and key go together"), ("redis: {tls: {ca: /nowhere}}", "redis.tls.ca"),
        ("authentication: {ticket: {auth_fields: [a]}}", "validation_url: is missing"),
        ("authentication: {token: {}}", "unknown key"), ("metrics: {prometheus: {}}", "port: is missing"),
        ("metrics: {promtheus: {port: 1}}", "did you mean \"prometheus\"?"),
        ("services: {a: {on_message: nowhere}}", "must be an address"),
        ("services: {a: {authorizer: ~}}", "is empty"), ("services: {a: {before_subscribe: }}", "is empty"),
        ("services: {a: {on_message: 'ftp://x/'}}", "must be an address"),
        ("services: {a: {authorization_renewal_period: 1, authorization_renewal_jitter: 2}}", "must not be greater"),
        ("services: {a: {extra_fields: [status]}}", "cannot be an extra field"),
        ("http: {ssl_cafile: /nowhere}", "no certificates"), ("http: {tries: many}", "whole number"),
    ])
    func mistakesAreNamed(_ yaml: String, words: String) {
        let issues = self.issues(yaml)
        #expect(issues.count == 1)
        #expect(issues.first?.hasPrefix("h.yml:1: ") == true && issues.first?.contains(words) == true, "\(issues)")
    }

    @Test func passwordsAreNotRepeated() {
        let issues = self.issues("services: {a: {on_message: 'htp://user:secret@host/'}}")
        #expect(!issues.joined().contains("secret"))
    }

    @Test(arguments: [
        ("ws_port: 0", 0), ("ws_port: 65535", 0), ("ws_port: 65536", 1), ("ws_port: -1", 1), ("ws_port: 1.5", 1),
        ("ws_port: []", 1),
        ("ws_port: {}", 1), ("ws_ping: {interval: 0}", 0), ("ws_ping: {interval: 3600}", 0),
        ("ws_ping: {interval: 3600.1}", 1),
        ("ws_ping: {interval: -0.1}", 1), ("ws_ping: {interval: .inf}", 1), ("ws_ping: {interval: nan}", 1),
        ("ws_ping: {interval: inf}", 1),
        ("ws_ping: 5", 1), ("limits: {message_bytes: 127}", 1), ("limits: {message_bytes: 128}", 0),
        ("limits: {message_bytes: 1073741824}", 0),
        ("limits: {message_bytes: 1073741825}", 1), ("limits: {json_depth: 1}", 1), ("limits: {json_depth: 2}", 0),
        ("prefix: live", 1),
        ("prefix: /live/", 1), ("prefix: /", 1), ("prefix: ''", 0), ("api: {key: 0123456789abcde}", 1),
        ("api: {key: 0123456789abcdef}", 0),
        ("ws_ssl: {cert: a}", 1), ("ws_ssl: {key: a}", 1), ("broker: {kind: redis}", 1), ("services: {a.b: {}}", 1),
        ("services: {'': {}}", 1),
        ("services: {a: 1}", 1), ("services: []", 1), ("services: {a: {extra_fields: [data]}}", 1),
        ("services: {a: {extra_fields: [[x]]}}", 1),
        ("services: {a: {extra_fields: x}}", 1), ("services: {a: {require_authentication: maybe}}", 1),
        ("services: {a: }", 0),
        ("history: {size: 1000000}", 0), ("history: {size: 1000001}", 1), ("- a", 1), ("text", 1), ("a: b: c", 1),
        ("ws_port: 1\nws_port: 2", 1),
        ("\"unfinished", 1),
    ])
    func ranges(_ yaml: String, _ count: Int) {
        #expect(self.issues(yaml).count == count, "\(self.issues(yaml))")
    }

    @Test func duplicatesNameTheLineOfTheSecond() {
        #expect(self.issues("ws_port: 1\nthreads: 1\nws_port: 2\n") == ["h.yml:3: ws_port: given twice"])
    }

    @Test func certificateAndKeyAreOpened() async throws {
        try await TestCertificate.withFiles { files in
            let yaml = "threads: 1\nws_ssl:\n  cert: \(files.certificate)\n  key: \(files.key)\n"
            let configuration = try self.load(yaml)
            #expect(configuration.tls == files)
            let missing = yaml.replacing(files.certificate, with: "/no/such.pem")
            #expect(
                self.issues(missing) == [
                    "h.yml:3: ws_ssl.cert: no certificates in PEM form can be read from /no/such.pem"
                ])
            let swapped = yaml.replacing(files.key, with: files.certificate)
            #expect(self.issues(swapped).count == 1)
            #expect(self.issues(swapped).first?.hasPrefix("h.yml:4: ws_ssl.key: no private key in PEM form") == true)
        }
    }

    @Test func mistakesAreNamedInTheOrderOfTheFile() {
        let issues = self.issues("nobody: 1\nlimits:\n  batch: 0\nws_port: x\nws_ssl:\n  cert: a\n")
        #expect(issues.map { String($0.prefix { $0 != " " }) } == ["h.yml:1:", "h.yml:3:", "h.yml:4:", "h.yml:6:"])
    }

    @Test func misspeltVariablesAreNamedAndOthersAreNot() {
        #expect(
            self.issues("", ["HOLDFAST_WS_PROT": "1"]) == [
                "HOLDFAST_WS_PROT: unknown variable; did you mean \"HOLDFAST_WS_PORT\"?"
            ])
        // Kubernetes' own for a service named holdfast, and somebody else's.
        #expect(
            self.issues(
                "",
                [
                    "HOLDFAST_PORT": "tcp://10.0.0.1:80", "HOLDFAST_SERVICE_HOST": "10.0.0.1",
                    "HOLDFAST_PORT_80_TCP_PORT": "80", "HOLDFAST_BIN": "x",
                ]
            ).isEmpty)
    }

    @Test func theEnvironmentOverrides() throws {
        let environment = [
            "HOLDFAST_WS_PORT": "9100", "HOLDFAST_WS_PING_INTERVAL": "2.5",
            "HOLDFAST_SERVICES_CALLS_EXTRA_FIELDS": "a, b",
            "HOLDFAST_SERVICES_CALLS_REQUIRE_AUTHENTICATION": "false", "HOLDFAST_LIMITS_OUTBOX_BYTES": "2048",
            "PATH": "/bin",
        ]
        let configuration = try self.load("ws_port: 1\nservices:\n  calls:\n    extra_fields: [c]\n", environment)
        #expect(configuration.port == 9100)
        #expect(configuration.ping.interval == 2.5)
        #expect(configuration.services["calls"]?.extraFields == ["a", "b"])
        #expect(configuration.services["calls"]?.requireAuthentication == false)
        #expect(configuration.limits.outbox.bytes == 2048)
        // Also what the file has wrong.
        #expect(try self.load("ws_port: x\n", environment.filter { $0.key == "HOLDFAST_WS_PORT" }).port == 9100)
    }

    @Test func theEnvironmentIsNamedWhenItIsWrong() {
        #expect(
            self.issues("ws_port: 1\n", ["HOLDFAST_WS_PORT": "70000"]) == [
                "HOLDFAST_WS_PORT: ws_port: must be from 0 to 65535, but is 70000"
            ]
        )
        #expect(
            self.issues("", ["HOLDFAST_LIMITS_JSON_DEPTH": "deep"]) == [
                "HOLDFAST_LIMITS_JSON_DEPTH: limits.json_depth: must be a whole number, but is \"deep\""
            ]
        )
    }

    @Test func loopback() throws {
        for (host, isLoopback) in [
            ("127.0.0.1", true), ("127.9.9.9", true), ("localhost", true), ("'::1'", true), ("0.0.0.0", false),
            ("10.0.0.1", false),
        ] {
            #expect(try self.load("ws_host: \(host)").isLoopback == isLoopback)
        }
    }

    @Test func services() throws {
        let strict = try self.load("services: {a: {}}")
        #expect(strict.services["a"]?.requireAuthentication == true)
        #expect(strict.otherServices == nil)
        #expect(strict.everyServiceAsksForAuthentication)
        #expect(try !self.load("services: {a: {}, b: {require_authentication: off}}").everyServiceAsksForAuthentication)
        #expect(try !self.load("").everyServiceAsksForAuthentication)
        let development = Configuration.development
        #expect(development.otherServices?.requireAuthentication == false)
        #expect(development.history(of: Configuration.Service()) == HistorySettings(size: 1000, ttl: 300))
        #expect(!development.everyServiceAsksForAuthentication)
    }

    @Test(arguments: [
        ("https://app.example.com", true), ("http://127.0.0.1:8080", true), ("https://[::1]:8443", true),
        ("https://[::1]", true), ("http://localhost", true),
        ("https://app.example.com/", false), ("https://App.example.com", false), ("app.example.com", false),
        ("https://a.example:443", false), ("http://a.example:80", false), ("https://a.example:99999", false),
        ("https://a.example:", false), ("https://a.example:x", false), ("ws://a.example", false), ("*", false),
        ("https://*.example.com", false), ("null", false), ("https://", false),
    ])
    func originsAreWhatBrowsersSend(_ origin: String, isGood: Bool) {
        #expect(self.issues("cors: {origins: ['\(origin)']}").isEmpty == isGood)
    }

    @Test func whatAPageOfAnotherOriginIsTold() throws {
        let cors = try self.load("cors: {origins: ['https://a.example', 'https://b.example']}").cors
        #expect(cors.headers(for: nil).isEmpty)
        #expect(cors.headers(for: "https://c.example").isEmpty)
        let headers = cors.headers(for: "https://b.example")
        #expect(headers.contains { $0 == ("Access-Control-Allow-Origin", "https://b.example") })
        #expect(headers.contains { $0 == ("Access-Control-Allow-Credentials", "true") })
        let open = Configuration.development.cors.headers(for: "https://c.example")
        #expect(open.contains { $0 == ("Access-Control-Allow-Origin", "*") })
        #expect(!open.contains { $0.0 == "Access-Control-Allow-Credentials" })
    }

    @Test(arguments: [
        ("session_digits: '01234567'", 0), ("session_digits: 89abcdef", 0), ("session_digits: xyz", 1),
        ("session_digits: ABC", 1), ("prefix: '/h f'", 1), ("prefix: '/h?f'", 1), ("prefix: /é", 1),
        ("prefix: /a/b-c_1", 0),
        ("limits: {poll_time: 0}", 1), ("limits: {idle_time: 0.1}", 0), ("diagnose: maybe", 1), ("diagnose: off", 0),
    ])
    func keysOfTheHTTPTransports(_ yaml: String, issues: Int) {
        #expect(self.issues(yaml).count == issues)
    }
}
