"""Architectures of timm: one or more of every module in its registry, the smallest that differ."""

from collections.abc import Iterator
from typing import Any

from structured_cases import Case, declare_operators, images

_SIZE = 64
_ANY_SIZE = """
convmixer_768_32 test_convnext convnext_atto convnextv2_atto cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s
darknet17 cspresnext50 sedarknet21 cspresnet50 cspnext_tiny davit_tiny densenet121 densenetblur121d dla46x_c dla46_c
dpn48b dpn68 edgenext_xx_small test_efficientnet_ln efficientnet_b0 mobilenetv2_050 mnasnet_small tinynet_e
semnasnet_050 mixnet_s efficientvim_m1 efficientvit_b0 efficientvit_l1 fasternet_t0 fastvit_t8 focalnet_tiny_srf
ghostnet_050 ghostnetv2_100 ghostnetv3_050 hardcorenas_a hgnetv2_b0 hgnet_tiny sam2_hiera_tiny hieradet_small
hrnet_w18_small iformer_t inception_next_atto lcnetv2_small lowformer_b0 lowformer_e1 test_mambaout mambaout_femto
poolformer_s12 poolformerv2_s12 caformer_s18 convformer_s18 mobilenetv3_small_050 lcnet_035 fbnetv3_b nasnetalarge
nextvit_small test_nfnet nf_regnet_b0 eca_nfnet_l0 pnasnet5large pvt_v2_b0 rdnet_tiny regnetx_002 regnety_002
regnetz_005 regnetv_040 repghostnet_050 res2next50 res2net50_14w_8s resnest14d resnet18 resnet26t resnext26ts
resnetblur18 seresnet18 ecaresnet26t ecaresnext26t_32x4d resnetv2_18 rexnet_100 rexnetr_100 selecsls42
legacy_seresnet18 legacy_seresnext26_32x4d shvit_s1 skresnet18 skresnext50_32x4d starnet_s050 tiny_vit_5m_224
tresnet_m tresnet_v2_l vgg11 ese_vovnet19b_slim_dw vovnet39a eca_vovnet39b legacy_xception xception41p xception41
mobileone_s1 gernet_s repvgg_a0 regnetz_b16 test_byobnet lambda_resnet26t gcresnext26ts
"""
_SIZED = """
eca_botnext26ts_256 botnet26t_256 cait_xxs24_224 coat_tiny coat_lite_tiny convit_tiny deit_tiny_patch16_224
deit_tiny_distilled_patch16_224 efficientformerv2_s0 efficientvit_m0 vit_tiny_patch16_dinov3_qkvb
eva02_tiny_patch14_224 gcvit_xxtiny hiera_tiny_224 hiera_small_abswin_256 levit_128s levit_conv_128s test_coatnet
test_maxvit coatnext_nano_rw_224 maxxvit_rmlp_nano_rw_256 maxxvitv2_nano_rw_256 gmlp_ti16_224 gmixer_12_224
resmlp_12_224 mixer_s16_224 mobilevit_xxs mobilevitv2_050 mvitv2_tiny nest_tiny nest_tiny_jx pit_ti_224
pit_ti_distilled_224 repvit_m0_9 sequencer2d_s swiftformer_xs swin_tiny_patch4_window7_224 swin_s3_tiny_224
swinv2_tiny_window8_256 swinv2_cr_tiny_224 swinv2_cr_tiny_ns_224 tnt_s_legacy_patch16_224 tnt_s_patch16_224
twins_svt_small twins_pcpvt_small visformer_tiny test_vit vit_tiny_patch16_224 flexivit_small
vit_tiny_r_s16_p8_224 test_vit_relpos vit_srelpos_small_patch16_224 vitamin_small_224 volo_d1_224
xcit_nano_12_p8_224
"""
_DEEP = {"img_size": _SIZE, "depth": 2}
_OTHERS: dict[str, tuple[int, dict[str, Any]]] = {
    "inception_resnet_v2": (96, {}),
    "inception_v3": (96, {}),
    "inception_v4": (96, {}),
    "efficientformer_l1": (224, {}),
    "halonet_h1": (256, {}),
    "haloregnetz_b": (224, {}),
    "beit_base_patch16_224": (_SIZE, _DEEP),
    "deepseek_vit_412m": (224, {"depth": 2}),
    "gemma4_vit_167m": (_SIZE, _DEEP),
    "naflexvit_so150m2_patch16_reg1_gap": (_SIZE, _DEEP),
    "qwen3_vit_88m": (_SIZE, _DEEP),
    "samvit_base_patch16_224": (_SIZE, _DEEP | {"global_attn_indexes": (1,)}),
    "mobilenetv5_300m": (_SIZE, {}),
}


def timm_cases() -> Iterator[Case]:
    """Each with two small pictures; those that are large in every version have two layers."""
    declare_operators()
    import timm

    chosen = dict.fromkeys(_ANY_SIZE.split(), (_SIZE, {}))
    chosen |= dict.fromkeys(_SIZED.split(), (_SIZE, {"img_size": _SIZE})) | _OTHERS
    for name, (size, more) in chosen.items():
        yield Case("timm", name, lambda n=name, k=more: timm.create_model(n, **k), images(size, 2))
