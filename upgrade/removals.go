package upgrade

// removal is what a minor version no longer takes and the minor before it did. Each part is found by asking the programs
// of both minors, and is refreshed in the same way when a minor is added:
//   - flags: each flag that the older one has, also the hidden ones (find them in its sources, by pflag's Var and
//     MarkHidden), is given to the newer as --FLAG=x together with a flag that no program has. The newer complains about
//     one of the two; "unknown flag: --FLAG" makes a row
//   - values: likewise for flags that list names, of controllers and of admission plugins; the lists are in --help
//   - gates, locked: every gate of the sources of the older one, also those that --help hides because they are stable, is
//     given on and off to both, as --feature-gates=GATE=true --version (kubelet: with a --config that does not exist;
//     kube-proxy: in a file that is invalid elsewhere, or they ask nothing or start). "unrecognized feature gate" and
//     "feature is locked" make a row if only the newer says so
//   - followers: what "depends on features that are disabled" names in the newer only
//
// All five components of Kubernetes know the same gates.
type removal struct {
	flags     map[string]map[string]string   // by component and name, without dashes: a hint, or empty if nothing takes its place
	values    map[string]map[string][]string // by component and flag: names in its list
	gates     []string
	locked    map[string]bool     // a gate, and the only value that it takes
	followers map[string][]string // a gate, and those that are on by themselves and need it
}

// removals has a row for each supported minor but the first.
// Sources: https://github.com/kubernetes/kubernetes/blob/master/CHANGELOG/CHANGELOG-1.37.md and
// https://etcd.io/docs/v3.7/upgrades/upgrade_3_7/
var removals = map[string]removal{
	"v1.37": { // 1.36.3 and 1.37.2, etcd 3.6.8 and 3.7.2
		flags: map[string]map[string]string{
			"kube-controller-manager": {
				"concurrent-service-syncs": "remove it, it was for the cloud's load balancers",
			},
			"kubelet": {
				"application-metrics-count-limit": "",
				"boot-id-file":                    "",
				"container-hints":                 "",
				"containerd":                      "",
				"containerd-namespace":            "",
				"enable-load-reader":              "",
				"event-storage-age-limit":         "",
				"event-storage-event-limit":       "",
				"global-housekeeping-interval":    "",
				"log-cadvisor-usage":              "",
				"machine-id-file":                 "",
				"storage-driver-buffer-duration":  "",
				"storage-driver-db":               "",
				"storage-driver-host":             "",
				"storage-driver-password":         "",
				"storage-driver-secure":           "",
				"storage-driver-table":            "",
				"storage-driver-user":             "",
			},
			"kube-proxy": {
				"boot-id-file":    "",
				"machine-id-file": "",
			},
			"etcd": {
				"discovery":       "use --discovery-token and --discovery-endpoints",
				"discovery-proxy": "",
				"experimental-bootstrap-defrag-threshold-megabytes": "use --bootstrap-defrag-threshold-megabytes",
				"experimental-compact-hash-check-enabled":           "use --feature-gates=CompactHashCheck=true",
				"experimental-compact-hash-check-time":              "use --compact-hash-check-time",
				"experimental-compaction-batch-limit":               "use --compaction-batch-limit",
				"experimental-compaction-sleep-interval":            "use --compaction-sleep-interval",
				"experimental-corrupt-check-time":                   "use --corrupt-check-time",
				"experimental-distributed-tracing-address":          "use --distributed-tracing-address",
				"experimental-distributed-tracing-instance-id":      "use --distributed-tracing-instance-id",
				"experimental-distributed-tracing-sampling-rate":    "use --distributed-tracing-sampling-rate",
				"experimental-distributed-tracing-service-name":     "use --distributed-tracing-service-name",
				"experimental-downgrade-check-time":                 "use --downgrade-check-time",
				"experimental-enable-distributed-tracing":           "use --enable-distributed-tracing",
				"experimental-enable-lease-checkpoint":              "use --feature-gates=LeaseCheckpoint=true",
				"experimental-enable-lease-checkpoint-persist":      "use --feature-gates=LeaseCheckpointPersist=true",
				"experimental-initial-corrupt-check":                "use --feature-gates=InitialCorruptCheck=true",
				"experimental-memory-mlock":                         "use --memory-mlock",
				"experimental-peer-skip-client-san-verification":    "use --peer-skip-client-san-verification",
				"experimental-snapshot-catchup-entries":             "use --snapshot-catchup-entries",
				"experimental-stop-grpc-service-on-defrag":          "use --feature-gates=StopGRPCServiceOnDefrag=true",
				"experimental-txn-mode-write-with-shared-buffer":    "use --feature-gates=TxnModeWriteWithSharedBuffer=true",
				"experimental-warning-apply-duration":               "use --warning-apply-duration",
				"experimental-warning-unary-request-duration":       "use --warning-unary-request-duration",
				"experimental-watch-progress-notify-interval":       "use --watch-progress-notify-interval",
			},
		},
		values: map[string]map[string][]string{
			"kube-apiserver": {
				"enable-admission-plugins":  {"JobValidation", "PodGroupWorkloadExists"},
				"disable-admission-plugins": {"JobValidation", "PodGroupWorkloadExists"},
			},
			"kube-controller-manager": {
				"controllers": {"cloud-node-lifecycle-controller", "node-route-controller", "service-lb-controller"},
			},
		},
		gates: []string{
			"APIServerTracing",
			"AnonymousAuthConfigurableEndpoints",
			"AnyVolumeDataSource",
			"AuthorizeNodeWithSelectors",
			"AuthorizeWithSelectors",
			"BtreeWatchCache",
			"ConsistentListFromCache",
			"GangScheduling",
			"JobBackoffLimitPerIndex",
			"JobPodReplacementPolicy",
			"JobSuccessPolicy",
			"LogarithmicScaleDown",
			"OrderedNamespaceDeletion",
			"PodLifecycleSleepAction",
			"PodLifecycleSleepActionAllowZero",
			"PreventStaticPodAPIReferences",
			"RelaxedDNSSearchValidation",
			"ResilientWatchCacheInitialization",
			"RetryGenerateName",
			"SchedulerQueueingHints",
			"SidecarContainers",
			"StreamingCollectionEncodingToJSON",
			"StreamingCollectionEncodingToProtobuf",
			"StructuredAuthenticationConfiguration",
			"WorkloadAwarePreemption",
		},
		locked: map[string]bool{
			"DeclarativeValidationTakeover":           false,
			"DRAExtendedResource":                     true,
			"DRAPrioritizedList":                      true,
			"DRAResourceClaimDeviceStatus":            true,
			"DisableCPUQuotaWithExclusiveCPUs":        true,
			"HPAConfigurableTolerance":                true,
			"HostnameOverride":                        true,
			"InPlacePodVerticalScalingInitContainers": true,
			"NodeDeclaredFeatures":                    true,
			"PLEGOnDemandRelist":                      true,
			"PodReadyToStartContainersCondition":      true,
			"RelaxedServiceNameValidation":            true,
			"WatchCacheInitializationPostStartHook":   true,
		},
		followers: map[string][]string{
			"AtomicFIFO":         {"NodeControllerLeaseCircuitBreaker", "StaleControllerConsistencyHPA"},
			"ClusterTrustBundle": {"ClusterTrustBundleProjection"},
			"DRADeviceTaints":    {"DRADeviceTaintRules"},
			"PodLevelResources":  {"PodLevelResourcesFixDefaulting", "PodLevelResourcesFixKubeletQOSClass"},
		},
	},
}
